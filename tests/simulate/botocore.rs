//! AWS's own client against the simulation, and the simulation against an endpoint that shares no code with it.

use std::process::Command;

/// What the script ends with where botocore is missing.
const SKIPPED: i32 = 77;

#[test]
fn botocore_gets_every_answer_from_the_simulation_and_from_an_independent_endpoint() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/aws_model/boto3_speaks_to_simulation.py");
    let output = match Command::new("python3").args([script, env!("CARGO_BIN_EXE_meterd")]).output() {
        Ok(output) => output,
        Err(error) => return println!("skipped: python3 cannot be started: {error}"),
    };
    let shown = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(SKIPPED) {
        return println!("{shown}");
    }
    assert!(output.status.success(), "{shown}");
}
