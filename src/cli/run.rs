//! `meterd run`: the agent.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sd_notify::{NotifyState, notify, watchdog_enabled};

use super::clock_flags::ClockFlags;
use super::exit;
use super::log::{Log, is_journal};
use super::say::complain;
use crate::agent::run::{self as agent, Launch, Stage};
use crate::clock::{Clock, FastClock, SystemClock};
use crate::config::{Config, Overrides};
use crate::simulate::{Options, Simulation};

/// How fast a clock runs for a try: an hour in 20 seconds.
const DEV_SPEED: u32 = 180;
/// While recovery is tried again and again systemd is asked, more often than this, for so many microseconds more.
const START_EXTENDED_USEC: u32 = 300_000_000;
/// Credentials that nobody would mistake for real ones.
const DEV_KEY: &str = "AKIDMETERDDEV";

/// Run the agent
///
/// With --dev everything is embedded for a try: state in a local directory, a simulated AWS in the process, dummy
/// credentials and a fast clock. No configuration is needed for that.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// The configuration file [default: METERD_CONFIG, else /etc/meterd/meterd.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    clock: ClockFlags,

    /// Everything embedded, for a try; nothing reaches AWS
    #[arg(long)]
    dev: bool,

    /// With --dev: how many times as fast the clock runs
    #[arg(long, value_name = "N", requires = "dev", default_value_t = DEV_SPEED,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(FastClock::SPEED_MAX)))]
    speed: u32,

    /// With --dev: where state and socket lie [default: ./meterd-dev]
    #[arg(long, value_name = "DIR", requires = "dev")]
    dir: Option<PathBuf>,
}

/// Runs the agent; returns the exit code.
pub fn run(args: &Run) -> u8 {
    let clock = match args.dev {
        true => Arc::new(FastClock::new(SystemClock::default().now(), args.speed)),
        false => args.clock.clock(),
    };
    let log = Log::begin(Arc::clone(&clock));
    let ended = start(args, clock);
    log.end();
    match ended {
        Ok(()) => exit::FINE,
        // With its priority, a line a mistake.
        Err((code, message)) if is_journal() => {
            message.lines().for_each(|line| tracing::error!("{line}"));
            code
        }
        Err((code, message)) => {
            complain!("meterd: {message}");
            code
        }
    }
}

type Failure = (u8, String);

fn start(args: &Run, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    let overrides = Overrides::from_env(|name| std::env::var_os(name)).map_err(config_failure)?;
    if args.dev {
        return dev(args, clock, &overrides);
    }
    let path = overrides.config_path(args.config.as_deref());
    let config = Config::load_for_run(&path, &overrides).map_err(config_failure)?;
    if args.clock.is_set() && !config.submit.is_loopback() {
        let message = "--clock-start and --clock-speed are for tests: set submit.endpoint_url to a loopback address";
        return Err((exit::USAGE, message.into()));
    }
    let load = move |running: &Config| running.load_to_replace(&path, &overrides);
    serve(&config, Launch { load: Some(Arc::new(load)), ..launch(clock, args.clock.is_set()) })
}

fn launch(clock: Arc<dyn Clock>, own_clock: bool) -> Launch {
    Launch { clock, own_clock, dummy_key: None, load: None, watchdog: watchdog_enabled() }
}

fn serve(config: &Config, launch: Launch) -> Result<(), Failure> {
    let say = |stage: Stage<'_>| {
        // Outside systemd there is nobody to tell.
        let _ = match stage {
            Stage::Ready => {
                tracing::info!(socket = %config.socket.path.display(), "ready");
                notify(&[NotifyState::Ready, NotifyState::Status("")])
            }
            // It is not READY, and must not be killed for that: nothing would be better for a restart.
            Stage::NotReady(why) => {
                let status = format!("not ready: {}", why.replace('\n', " "));
                notify(&[NotifyState::Status(&status), NotifyState::ExtendTimeoutUsec(START_EXTENDED_USEC)])
            }
            Stage::Alive => notify(&[NotifyState::Watchdog]),
        };
    };
    agent::run(config, launch, &say).map_err(|error| (error.exit_code(), error.to_string()))
}

fn dev(args: &Run, clock: Arc<dyn Clock>, overrides: &Overrides) -> Result<(), Failure> {
    if args.clock.is_set() {
        return Err((exit::USAGE, "--dev has a clock of its own: use --speed".into()));
    }
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| (exit::REFUSED, format!("{what}: {error}; name a directory of yours with --dir"))
    };
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from("meterd-dev"));
    std::fs::create_dir_all(&dir).map_err(failed(&format!("making {}", dir.display())))?;
    let dir = dir.canonicalize().map_err(failed(&format!("finding {}", dir.display())))?;
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let aws = Simulation::start(nowhere, Arc::clone(&clock), Options::default())
        .map_err(|error| (exit::REFUSED, format!("the simulated AWS cannot listen on a loopback port: {error}")))?;
    let config = dev_config(args.config.as_deref(), overrides, &dir, aws.addr())?;
    complain!("a simulated AWS at http://{}, nothing leaves this machine; {} s an hour", aws.addr(), 3600 / args.speed);
    complain!("try: curl --unix-socket {} http://meterd/v1/usage -d '{}'", config.socket.path.display(), TRY);
    serve(&config, Launch { dummy_key: Some(DEV_KEY), ..launch(clock, true) })
}

const TRY: &str = r#"{"dimension":"requests","quantity":1}"#;

/// The dimensions of the user's configuration, or two to play with; everything else local.
fn dev_config(file: Option<&Path>, overrides: &Overrides, dir: &Path, aws: SocketAddr) -> Result<Config, Failure> {
    let mut config = match file.or(overrides.config.as_deref()) {
        Some(path) => Config::load_for_run(path, overrides).map_err(config_failure)?,
        None => Config::parse(DEV_CONFIG, "the configuration of --dev").map_err(config_failure)?,
    };
    config.state.dir = dir.join("state");
    config.state.allow_volatile = true;
    config.socket.path = overrides.socket.clone().unwrap_or_else(|| dir.join("meterd.sock"));
    config.submit.endpoint_url = Some(format!("http://{aws}"));
    config.submit.region = Some("us-east-1".into());
    config.instance.id = Some("dev".into());
    Ok(config)
}

const DEV_CONFIG: &str = r#"
[product]
code = "dev"
[[dimension]]
name = "requests"
[[dimension]]
name = "gigabytes"
unit = "0.5"
[[dimension]]
name = "users"
measure = "max"
"#;

fn config_failure(errors: crate::config::ConfigErrors) -> Failure {
    (exit::CONFIG, errors.to_string())
}
