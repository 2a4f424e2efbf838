//! Whom the server runs as: Postgres refuses root, so root lends it another user.

use std::{
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::Path,
    process::Command,
};

use nix::unistd::{Uid, User};

use super::error::{At, LocalError};

/// A user that is not root.
#[derive(Debug)]
pub(super) struct Account {
    name: &'static str,
    uid: u32,
    gid: u32,
}

/// The user we are.
pub(super) fn our_uid() -> u32 {
    Uid::effective().as_raw()
}

impl Account {
    /// The user to run the server as; `None` if we are not root and run it ourselves.
    pub(super) fn for_server() -> Result<Option<Account>, LocalError> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        let known = ["postgres", "nobody"].into_iter().find_map(|name| {
            let user = User::from_name(name).ok().flatten()?;
            Some(Account {
                name,
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
            })
        });
        known.map(Some).ok_or(LocalError::NoAccount)
    }

    pub(super) fn uid(&self) -> u32 {
        self.uid
    }

    /// Runs the command as this user, in its own group only.
    pub(super) fn run_as(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Gives the folder to this user.
    pub(super) fn own(&self, folder: &Path) -> Result<(), LocalError> {
        std::os::unix::fs::chown(folder, Some(self.uid), Some(self.gid)).at("give the server", folder)
    }

    /// Checks that this user may pass through every folder down to `data_dir`, which is absolute.
    pub(super) fn check_reaches(&self, data_dir: &Path) -> Result<(), LocalError> {
        for folder in data_dir.ancestors() {
            let found = fs::metadata(folder).at("read", folder)?;
            let search = if found.uid() == self.uid {
                0o100
            } else if found.gid() == self.gid {
                0o010
            } else {
                0o001
            };
            if found.mode() & search == 0 {
                return Err(LocalError::OutOfReach {
                    user: self.name,
                    blocked: folder.to_owned(),
                    mode: found.mode() & 0o777,
                    data_dir: data_dir.to_owned(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_folder_closed_to_the_servers_user_is_named() {
        let home = tempfile::tempdir().unwrap();
        let data_dir = home.path().join("data");
        fs::create_dir(&data_dir).unwrap();
        fs::set_permissions(&data_dir, Permissions::from_mode(0o755)).unwrap();
        let stranger = Account {
            name: "postgres",
            uid: 54_321,
            gid: 54_321,
        };
        fs::set_permissions(home.path(), Permissions::from_mode(0o700)).unwrap();
        let e = stranger.check_reaches(&data_dir).unwrap_err();
        let blocked = home.path().display();
        assert!(
            e.to_string()
                .contains(&format!("cannot enter {blocked} (mode 700)")),
            "{e}"
        );
        assert!(e.to_string().contains(&format!("chmod o+x {blocked}")), "{e}");
        fs::set_permissions(home.path(), Permissions::from_mode(0o711)).unwrap();
        stranger.check_reaches(&data_dir).unwrap();
        let owner = Account {
            uid: our_uid(),
            ..stranger
        };
        fs::set_permissions(home.path(), Permissions::from_mode(0o700)).unwrap();
        owner.check_reaches(&data_dir).unwrap();
    }
}
