//! The kernels for GPUs, run on the processor by an emulation of the instructions they use; where no C++ compiler is, they
//! are skipped. What is left to a real GPU are the launches, what happens at the same time, and the speed.

use std::{path::Path, process::Command};

/// Compiles a program of `tests/emulated` with these settings, and runs it.
fn run(program: &str, settings: &[(&str, usize)]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let compiled = folder.path().join(program);
    let mut compile = Command::new("c++");
    compile
        .args(["-std=c++20", "-O2", "-w", "-pthread", "-I"])
        .arg(root.join("src/ops/cuda"))
        .args(settings.iter().map(|(name, value)| format!("-D{name}={value}")))
        .arg(root.join(format!("tests/emulated/{program}.cpp")))
        .arg("-o")
        .arg(&compiled);
    let compiler = match compile.output() {
        Ok(output) => output,
        Err(reason) => {
            #[expect(clippy::print_stderr, reason = "a skipped test says so")]
            {
                eprintln!("skipped: no C++ compiler (c++): {reason}");
            }
            return;
        }
    };
    assert!(
        compiler.status.success(),
        "{}",
        String::from_utf8_lossy(&compiler.stderr)
    );
    let output = Command::new(compiled).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {settings:?}: {}",
        String::from_utf8_lossy(&output.stdout)
    );
}

fn product(left: [usize; 2], right: [usize; 2]) {
    run(
        "product",
        &[
            ("LEFT_TRANSPOSED", left[0]),
            ("LEFT_ALIGNED", left[1]),
            ("RIGHT_TRANSPOSED", right[0]),
            ("RIGHT_ALIGNED", right[1]),
        ],
    );
}

#[test]
fn products_of_aligned_rows_are_their_definition() {
    product([0, 1], [1, 1]);
    product([1, 1], [0, 1]);
}

#[test]
fn products_of_other_rows_are_their_definition() {
    product([0, 0], [1, 0]);
    product([1, 0], [0, 0]);
}

#[test]
fn products_that_read_both_operands_from_shared_memory_are_their_definition() {
    for (left, right) in [(0, 1), (0, 0), (1, 0)] {
        let turned = [("LEFT_TRANSPOSED", left), ("RIGHT_TRANSPOSED", right)];
        run(
            "product_hopper",
            &[turned[0], turned[1], ("COLUMNS", 256), ("STAGES", 4)],
        );
    }
}

#[test]
fn attention_and_its_gradients_are_their_definition() {
    run("attention", &[("WIDTH", 32)]);
}

#[test]
fn the_optimizers_work_is_its_definition() {
    run("optimizer", &[]);
}

#[test]
fn norms_losses_and_lookups_are_their_definition() {
    run("rows", &[]);
}
