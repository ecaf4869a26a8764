//! The booted machine itself.

use pump_test::machine::Machine;

#[test]
#[ignore = "needs root and systemd-nspawn; `cargo xtask test` runs it"]
fn a_machine_boots_runs_commands_and_leaves_nothing() {
    let machine = Machine::boot("pump-smoke").expect("a machine boots");
    assert_eq!(machine.must(&["cat", "/proc/1/comm"]).trim(), "systemd");
    machine.must(&["sh", "-c", "echo mine >/etc/mine"]);
    let tree = machine.tree().expect("the tree can be read");
    assert!(tree.contains_key(std::path::Path::new("/etc/mine")));
    drop(machine);

    let again = Machine::boot("pump-smoke").expect("a machine boots");
    let output = again.run(&["test", "-e", "/etc/mine"]).expect("a command can be run");
    assert!(!output.status.success(), "the next machine starts fresh");
}
