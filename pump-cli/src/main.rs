//! pump-cli
fn main() {}
