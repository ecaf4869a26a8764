//! pumpd
fn main() {}
