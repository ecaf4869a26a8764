//! The program `pumpd`: see the library beside it.

fn main() -> pump_control::ExitStatus {
    pumpd::main()
}
