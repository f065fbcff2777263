//! The promise of quietness: no secret in what the agent says, nothing in its state for other users, no port.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::fake_aws::FakeAws;
use crate::world::{Agent, DIMENSIONS, NOON, World, wait_until};

const SECRET: &str = "c2VjcmV0LWtleS1vZi10aGUtdGVzdA";
const TOKEN: &str = "dG9rZW4tb2YtdGhlLXNlc3Npb24";

/// Inodes of a process's sockets.
fn sockets(pid: u32) -> Vec<String> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let names = fds.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    let inode = |name: &Path| Some(name.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
    names.filter_map(|name| inode(&name)).collect()
}

/// The lines of /proc/net that are sockets of the agent which wait for somebody from outside: TCP that listens, UDP or
/// anything raw that is not connected.
fn listeners(agent: &Agent<'_>) -> Vec<String> {
    let own = sockets(agent.pid());
    let mut found = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "packet"] {
        let Ok(text) = fs::read_to_string(format!("/proc/{}/net/{table}", agent.pid())) else { continue };
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // The state is the fourth column of the tables of IP; 01 is connected.
            let listens = match table {
                "tcp" | "tcp6" => fields[3] == "0A",
                "packet" => true,
                _ => fields[3] != "01",
            };
            if listens && fields.iter().any(|field| own.iter().any(|inode| inode == field)) {
                found.push(format!("{table}: {line}"));
            }
        }
    }
    found
}

#[test]
fn no_secret_is_said_no_port_is_open_and_the_state_is_for_the_agent_alone() {
    // An hour takes a few seconds, so that requests are signed and sent, and one is refused.
    let mut world = World::new(NOON - 300, 600);
    let aws = FakeAws::simulation(&mut world, &[]);
    world.configure(&aws.url(), DIMENSIONS, "", "");
    let meterd = world.run_command();
    // The laxest umask there is.
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0; exec \"$@\"", "sh"]).arg(meterd.get_program()).args(meterd.get_args());
    for (name, value) in meterd.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(world.path("."));
    // The most there is to be said: there is no level below, and libraries are never let say more than warnings.
    command.env("METERD_LOG", "debug").env("AWS_ACCESS_KEY_ID", "ASIATESTTEST00000001");
    command.env("AWS_SECRET_ACCESS_KEY", SECRET).env("AWS_SESSION_TOKEN", TOKEN);
    let agent = world.start_with(command);
    agent.tell(r#"{"dimension":"requests","quantity":3,"key":"a"}"#);
    assert_eq!(listeners(&agent), Vec::<String>::new());
    wait_until("AWS has accepted a record", || agent.status()["records"]["accepted"].as_u64() > Some(0));
    assert_eq!(listeners(&agent), Vec::<String>::new());
    crate::world::each_file(&world.state(), |path| {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
    });
    assert_eq!(fs::metadata(world.state()).unwrap().permissions().mode() & 0o777, 0o700);
    let log = agent.log();
    agent.stop();
    assert!(log.contains("accepted by AWS"), "requests were signed and sent: {log}");
    for secret in [SECRET, TOKEN] {
        assert!(!log.contains(secret), "a secret is in the log: {log}");
    }
}
