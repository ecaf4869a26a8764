//! pumpd
mod master;
fn main() {}
