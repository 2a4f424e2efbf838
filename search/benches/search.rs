//! Speed of the parts that a study waits for.
fn main() {}
