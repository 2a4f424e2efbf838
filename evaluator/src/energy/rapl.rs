//! The processor's energy counters (RAPL), package and memory, through the kernel's powercap files.
//!
//! The counters wrap around, so a thread reads them often enough to see each wrap.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use spaces::Evidence;

use super::Source;

/// Between two readings; a counter of 65 kJ at 500 W wraps after two minutes.
const POLL: Duration = Duration::from_secs(20);

struct Zone {
    file: PathBuf,
    range_uj: u64,
    last_uj: u64,
}

#[derive(Default)]
struct Zones {
    zones: Vec<Zone>,
    total_uj: u64,
}

impl Zones {
    fn read(&mut self) -> Result<u64, String> {
        for zone in &mut self.zones {
            let now = read_number(&zone.file)?;
            let step = if now >= zone.last_uj {
                now - zone.last_uj
            } else {
                zone.range_uj - zone.last_uj + now
            };
            zone.last_uj = now;
            self.total_uj += step;
        }
        Ok(self.total_uj)
    }
}

/// Package and memory counters of the whole machine.
pub struct Rapl {
    zones: Arc<Mutex<Zones>>,
    // dropping it ends the polling thread
    _stop: Sender<()>,
}

impl Rapl {
    /// Opens every package and memory counter below the powercap folder.
    ///
    /// # Errors
    /// A sentence: there is none, or it cannot be read (usually by root only).
    pub fn open(root: &Path) -> Result<Rapl, String> {
        let entries =
            fs::read_dir(root).map_err(|_| format!("'{}' is not there: no RAPL counters", root.display()))?;
        let mut zones = vec![];
        for entry in entries.flatten() {
            let dir = entry.path();
            let name = fs::read_to_string(dir.join("name")).unwrap_or_default();
            // psys, core and uncore overlap with the package
            if !(name.starts_with("package") || name.trim() == "dram") {
                continue;
            }
            let file = dir.join("energy_uj");
            let last_uj = read_number(&file)?;
            zones.push(Zone {
                last_uj,
                range_uj: read_number(&dir.join("max_energy_range_uj"))?,
                file,
            });
        }
        if zones.is_empty() {
            return Err(format!("no package counter below '{}'", root.display()));
        }
        let zones = Arc::new(Mutex::new(Zones { zones, total_uj: 0 }));
        let (stop, stopped) = channel::<()>();
        let polled = Arc::clone(&zones);
        thread::spawn(move || {
            while stopped.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
                // an error shows itself to whoever reads next
                let _ = polled.lock().unwrap_or_else(PoisonError::into_inner).read();
            }
        });
        Ok(Rapl { zones, _stop: stop })
    }
}

fn read_number(file: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(file).map_err(|e| format!("'{}' cannot be read: {e}", file.display()))?;
    text.trim()
        .parse()
        .map_err(|_| format!("'{}' holds no number", file.display()))
}

impl Source for Rapl {
    fn name(&self) -> String {
        "rapl".into()
    }

    fn evidence(&self) -> Evidence {
        Evidence::Measured
    }

    fn joules(&mut self) -> Result<f64, String> {
        Ok(self.zones.lock().unwrap_or_else(PoisonError::into_inner).read()? as f64 * 1e-6)
    }

    fn shortest_window(&self) -> Duration {
        Duration::from_millis(500)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(root: &Path, folder: &str, name: &str, energy: u64) {
        let dir = root.join(folder);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("name"), name).unwrap();
        fs::write(dir.join("energy_uj"), energy.to_string()).unwrap();
        fs::write(dir.join("max_energy_range_uj"), "1000000").unwrap();
    }

    #[test]
    fn packages_and_memory_are_added_and_wraps_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        zone(root, "intel-rapl:0", "package-0\n", 900_000);
        zone(root, "intel-rapl:0:0", "core\n", 5);
        zone(root, "intel-rapl:0:1", "dram\n", 100);
        zone(root, "intel-rapl:1", "psys\n", 7);
        let mut rapl = Rapl::open(root).unwrap();
        assert_eq!(rapl.joules().unwrap(), 0.0);
        zone(root, "intel-rapl:0", "package-0\n", 400_000);
        zone(root, "intel-rapl:0:0", "core\n", 999_999);
        zone(root, "intel-rapl:0:1", "dram\n", 600);
        assert!(
            (rapl.joules().unwrap() - 0.500_5).abs() < 1e-9,
            "wrapped once, and 500 uJ of memory"
        );
        zone(root, "intel-rapl:0", "package-0\n", 500_000);
        assert!((rapl.joules().unwrap() - 0.600_5).abs() < 1e-9, "windows add up");
    }

    #[test]
    fn no_counter_is_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            Rapl::open(dir.path())
                .err()
                .unwrap()
                .contains("no package counter")
        );
        assert!(
            Rapl::open(&dir.path().join("none"))
                .err()
                .unwrap()
                .contains("no RAPL counters")
        );
    }
}
