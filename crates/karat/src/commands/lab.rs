//! `karat lab`

use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use karat_aws::REHEARSAL;
use karat_lab::aws::audit::Leftover;
use karat_lab::control::{self, Running, SECRET_HEADER};
use karat_lab::core::faults::{Blow, Kind, Rule};
use karat_lab::core::settings::{Instances, Settings};
use karat_lab::{Lab, Options};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cli::runtime;
use crate::error::Failure;
use crate::report::out;
use crate::{env, signals};

/// How long a lab may take to serve, and to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where it serves unless told otherwise.
const LISTEN: &str = "127.0.0.1:4566";

/// An AWS of one's own, to rehearse without an account.
///
/// The lab answers EC2, EBS direct, S3, STS, IAM, KMS, Systems Manager's parameters and sessions, and
/// Secrets Manager at one address, for AWS's own clients and all that are made with its kits. Instances
/// are local machines where this computer can run those (as root), and records otherwise.
#[derive(Debug, Args)]
pub(crate) struct LabArgs {
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    Up(UpArgs),
    Down(DownArgs),
    Status(StatusArgs),
    Env(EnvArgs),
    Faults(FaultsArgs),
    Audit(AuditArgs),
}

/// Starts the lab, and returns when it serves.
///
/// One that serves already is left alone.
#[derive(Debug, Args)]
struct UpArgs {
    /// Where to serve, an address of this computer; port 0 is any that is free.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = LISTEN)]
    listen: SocketAddr,
    /// The lab's settings; otherwise `lab.toml` in its folder, if that is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Whether instances are machines: `false` makes them records, where nothing boots; with
    /// `true` it is an error when they cannot be. Goes before the settings.
    #[arg(long, value_name = "BOOL")]
    machines: Option<bool>,
    /// Serves in the foreground until Ctrl-C or `karat lab down`.
    #[arg(long)]
    foreground: bool,
}

/// Ends the lab. What is in it stays for the next time.
#[derive(Debug, Args)]
struct DownArgs {
    /// Also forgets all that is in it.
    #[arg(long)]
    forget: bool,
}

/// Shows where the lab serves and what is in it.
#[derive(Debug, Args)]
struct StatusArgs {
    /// Prints it as JSON.
    #[arg(long)]
    json: bool,
}

/// Prints what makes AWS's clients use the lab: eval "$(karat lab env)".
#[derive(Debug, Args)]
struct EnvArgs {
    /// Prints it as JSON.
    #[arg(long)]
    json: bool,
}

/// Lists the failures that were asked for, or asks for one.
#[derive(Debug, Args)]
struct FaultsArgs {
    #[command(subcommand)]
    command: Option<FaultsCommand>,
    /// Prints them as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum FaultsCommand {
    Add(AddArgs),
    Strike(StrikeArgs),
    Clear(ClearArgs),
}

/// Asks for a failure.
#[derive(Debug, Args)]
struct AddArgs {
    /// What becomes of the calls.
    #[arg(value_name = "KIND")]
    kind: FaultKind,
    /// Which calls: a glob over SERVICE:CALL, or over CALL alone.
    #[arg(long, value_name = "GLOB", default_value = "*")]
    calls: String,
    /// Which part of them, up to 1: 0.2 is every fifth.
    #[arg(long, value_name = "PART", default_value_t = 1.0)]
    share: f64,
    /// Ends after so many.
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
    /// How long, in milliseconds: for latency and stale.
    #[arg(long = "delay", value_name = "MILLISECONDS", default_value_t = 0)]
    delay_ms: u64,
    /// The code of an error, such as InsufficientInstanceCapacity.
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
}

/// Has something befall instances, at once.
#[derive(Debug, Args)]
struct StrikeArgs {
    /// What befalls them.
    #[arg(value_name = "BLOW")]
    blow: BlowKind,
    /// Which instance; all that run, or of a spot-interruption all spot instances, without.
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// How long, in milliseconds: until a spot-interruption, 120000 without; after an ssh-cut.
    #[arg(long = "delay", value_name = "MILLISECONDS")]
    delay_ms: Option<u64>,
}

/// What befalls an instance.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum BlowKind {
    /// A spot instance is told of its end, and terminated after the delay.
    SpotInterruption,
    /// It is terminated at once, as when its host fails.
    InstanceLoss,
    /// Its connections end, and none begins for the delay.
    SshCut,
    /// Its temporary folders take no more.
    FullDisk,
}

impl BlowKind {
    fn blow(self) -> Blow {
        match self {
            Self::SpotInterruption => Blow::SpotInterruption,
            Self::InstanceLoss => Blow::InstanceLoss,
            Self::SshCut => Blow::SshCut,
            Self::FullDisk => Blow::FullDisk,
        }
    }
}

/// Takes failures back.
#[derive(Debug, Args)]
struct ClearArgs {
    /// Only this one; all without.
    #[arg(value_name = "ID")]
    id: Option<String>,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FaultKind {
    /// Refused for being one too many.
    Throttle,
    /// Refused with a code.
    Error,
    /// Answered late.
    Latency,
    /// Done, and never answered.
    LostResponse,
    /// What was made a moment ago is not seen.
    Stale,
    /// What it makes never gets ready.
    Stuck,
}

impl FaultKind {
    fn kind(self) -> Kind {
        match self {
            Self::Throttle => Kind::Throttle,
            Self::Error => Kind::Error,
            Self::Latency => Kind::Latency,
            Self::LostResponse => Kind::LostResponse,
            Self::Stale => Kind::Stale,
            Self::Stuck => Kind::Stuck,
        }
    }
}

/// Lists what is left over in the lab, and fails if there is anything.
#[derive(Debug, Args)]
struct AuditArgs {
    /// Images that can be used, and their snapshots, may be there.
    #[arg(long)]
    images: bool,
    /// Prints it as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: LabArgs) -> Result<(), Failure> {
    let dir = control::dir(&env::state_dir());
    match args.command {
        LabCommand::Up(args) => up(&dir, args),
        LabCommand::Down(args) => down(&dir, &args),
        LabCommand::Status(args) => status(&dir, &args),
        LabCommand::Env(args) => environment(&dir, &args),
        LabCommand::Faults(args) => faults(&dir, args),
        LabCommand::Audit(args) => audit(&dir, &args),
    }
}

fn found(dir: &Path) -> Result<Running, Failure> {
    control::find(dir)
        .ok_or_else(|| Failure::new("no lab serves").hint("`karat lab up` starts one"))
}

fn settings(dir: &Path, given: Option<&Path>) -> Result<Settings, Failure> {
    let own = dir.join("lab.toml");
    match given {
        Some(path) => Ok(Settings::read(path)?),
        None if own.exists() => Ok(Settings::read(&own)?),
        None => Ok(Settings::default()),
    }
}

fn up(dir: &Path, args: UpArgs) -> Result<(), Failure> {
    // What is wrong is told here, not in a log.
    let mut settings = settings(dir, args.config.as_deref())?;
    match args.machines {
        Some(true) => settings.instances = Instances::Machines,
        Some(false) => settings.instances = Instances::Records,
        None => {}
    }
    if !args.listen.ip().is_loopback() {
        out::warning_line(&format!(
            "Warning: {} can be reached from outside of this computer.",
            args.listen
        ));
    }
    if let Some(running) = control::find(dir) {
        out::stdout_line(&format!("The lab serves already, at {}.", running.url()));
        return Ok(());
    }
    if args.foreground {
        return serve(dir, args.listen, settings);
    }
    std::fs::create_dir_all(dir)?;
    let path = dir.join("lab.log");
    let log = std::fs::File::create(&path)?;
    let mut command = Command::new("/proc/self/exe");
    command.args(["lab", "up", "--foreground", "--listen", &args.listen.to_string()]);
    if let Some(config) = &args.config {
        command.arg("--config").arg(config);
    }
    if let Some(machines) = args.machines {
        command.arg("--machines").arg(machines.to_string());
    }
    // A group of its own: Ctrl-C in this terminal is not meant for it.
    let mut child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map_err(|e| Failure::new(format!("cannot start the lab: {e}")))?;
    let started = Instant::now();
    loop {
        if let Some(running) = control::find(dir).filter(|running| running.pid == child.id()) {
            out::stdout_line(&format!("The lab serves at {}.", running.url()));
            return Ok(());
        }
        let ended = child.try_wait()?.is_some();
        if ended || started.elapsed() > PATIENCE {
            let _ = child.kill();
            let said = std::fs::read_to_string(&path).unwrap_or_default();
            let said = said.trim().trim_start_matches("Error: ");
            return Err(Failure::new(match said {
                "" => "the lab does not start".to_owned(),
                said => said.to_owned(),
            }));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn serve(dir: &Path, listen: SocketAddr, mut settings: Settings) -> Result<(), Failure> {
    settings.cache = env::cache_dir();
    settings.supervisor = Some(PathBuf::from("/proc/self/exe"));
    runtime()?.block_on(async {
        let options = Options { dir: dir.to_owned(), listen, settings };
        let lab = Lab::start(options).await?;
        out::stdout_line(&format!("The lab serves at {}.", lab.running().url()));
        let told = CancellationToken::new();
        let _listener = signals::cancel_on_signal(told.clone())?;
        tokio::select! {
            () = lab.ended() => {}
            () = told.cancelled() => {}
        }
        lab.leave().await?;
        Ok(())
    })
}

fn down(dir: &Path, args: &DownArgs) -> Result<(), Failure> {
    if let Some(running) = control::find(dir) {
        ask(&running, "POST", "down", None)?;
        let started = Instant::now();
        while running.lives() {
            if started.elapsed() > PATIENCE {
                return Err(Failure::new(format!("process {} does not end", running.pid)));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        out::stdout_line("The lab has ended.");
    } else {
        // One that was killed leaves its file.
        control::forget(dir)?;
        out::stdout_line("No lab serves.");
    }
    if args.forget && dir.exists() {
        for name in ["lab.db", "lab.db-wal", "lab.db-shm", "lab.log"] {
            remove(std::fs::remove_file(dir.join(name)))?;
        }
        for name in ["blocks", "instances", "store"] {
            remove(std::fs::remove_dir_all(dir.join(name)))?;
        }
        out::stdout_line("What was in it is forgotten.");
    }
    Ok(())
}

/// What is not there is removed already.
fn remove(result: std::io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

/// Asks the lab one of its own questions.
fn ask(
    running: &Running,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, Failure> {
    let url = format!("{}/_lab/{path}", running.url());
    let method = reqwest::Method::from_bytes(method.as_bytes())?;
    runtime()?.block_on(async {
        // It is on this computer, whatever proxy there is.
        let client = karat_data::client_builder().no_proxy().timeout(PATIENCE).build()?;
        let mut request =
            client.request(method, url).header(SECRET_HEADER, running.secret_key.as_str());
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        let value: Value = serde_json::from_str(&text)?;
        if status.is_success() {
            return Ok(value);
        }
        Err(Failure::new(value["error"].as_str().unwrap_or("the lab refused").to_owned()))
    })
}

fn status(dir: &Path, args: &StatusArgs) -> Result<(), Failure> {
    let running = found(dir)?;
    let status = ask(&running, "GET", "status", None)?;
    if args.json {
        out::stdout_line(&status.to_string());
        return Ok(());
    }
    let text = |name: &str| match &status[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    out::stdout_line(&format!("address    {}", running.url()));
    out::stdout_line(&format!("account    {}", text("account")));
    out::stdout_line(&format!("region     {}", text("region")));
    let why = status["no_machines"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
    let kind = text("instances_are");
    out::stdout_line(&format!("instances  {}, as {kind}{why}", text("instances")));
    out::stdout_line(&format!("images     {}", text("images")));
    out::stdout_line(&format!("snapshots  {}", text("snapshots")));
    out::stdout_line(&format!("faults     {}", text("faults")));
    out::stdout_line("base images, in every region:");
    for image in status["base_images"].as_array().into_iter().flatten() {
        let part = |name: &str| image[name].as_str().unwrap_or_default();
        let id = image["id"].as_str().map(|id| format!("  {id}")).unwrap_or_default();
        let user = part("user");
        let remark = image["remark"].as_str().map(|text| format!("  ({text})")).unwrap_or_default();
        out::stdout_line(&format!("  {}  {}{id}  {user}{remark}", part("owner"), part("name")));
    }
    Ok(())
}

/// A value as a shell takes it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn environment(dir: &Path, args: &EnvArgs) -> Result<(), Failure> {
    let running = found(dir)?;
    let variables = running.environment();
    if args.json {
        let map: serde_json::Map<String, Value> =
            variables.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        out::stdout_line(&Value::Object(map).to_string());
        return Ok(());
    }
    out::stdout_line(&format!("unset {}", Running::unset().join(" ")));
    for (name, value) in variables {
        out::stdout_line(&format!("export {name}={}", quoted(&value)));
    }
    Ok(())
}

/// Whether the environment is the lab's already.
fn is_rehearsal() -> bool {
    std::env::var_os(REHEARSAL).is_some()
}

/// Whether a stored command line is that of a build in the lab.
pub(crate) fn was_rehearsal(command: &[String]) -> bool {
    let mut flags = command.iter().filter_map(|word| word.strip_prefix('-'));
    flags.any(|flag| matches!(flag.trim_start_matches('-'), "lab" | "lab=true"))
}

/// This program with the lab's address and key in the environment; starts the lab where none serves.
fn in_the_lab() -> Result<Command, Failure> {
    let dir = control::dir(&env::state_dir());
    if control::find(&dir).is_none() {
        // What this command prints is a build's.
        let started = Command::new("/proc/self/exe")
            .args(["lab", "up"])
            .stdin(Stdio::null())
            .stdout(std::io::stderr())
            .status()?;
        if !started.success() {
            return Err(Failure::Reported);
        }
    }
    let running = found(&dir)?;
    let mut again = Command::new("/proc/self/exe");
    for name in Running::unset() {
        again.env_remove(name);
    }
    again.envs(running.environment()).env(REHEARSAL, "1");
    Ok(again)
}

/// Begins this command again in the lab. Comes back when it was begun there.
pub(crate) fn rehearse() -> Result<(), Failure> {
    if is_rehearsal() {
        return Ok(());
    }
    let mut again = in_the_lab()?;
    let mut words = std::env::args_os();
    again.arg0(words.next().unwrap_or_else(|| "karat".into())).args(words);
    Err(Failure::new(format!("cannot begin again: {}", again.exec())))
}

/// Runs this program in the lab, with its output where this one's goes; says whether it succeeded.
/// `None` where this one is in the lab itself.
pub(crate) async fn run_there(args: &[String]) -> Result<Option<bool>, Failure> {
    if is_rehearsal() {
        return Ok(None);
    }
    let mut there = tokio::process::Command::from(in_the_lab()?);
    Ok(Some(there.args(args).status().await?.success()))
}

fn faults(dir: &Path, args: FaultsArgs) -> Result<(), Failure> {
    let running = found(dir)?;
    match args.command {
        Some(FaultsCommand::Add(add)) => {
            let rule = json!({
                "kind": add.kind.kind(),
                "calls": add.calls,
                "share": add.share,
                "count": add.count,
                "delay_ms": add.delay_ms,
                "code": add.code,
            });
            let made = ask(&running, "POST", "faults", Some(&rule))?;
            out::stdout_line(made["id"].as_str().unwrap_or_default());
        }
        Some(FaultsCommand::Strike(strike)) => {
            let asked = json!({
                "blow": strike.blow.blow(),
                "instance": strike.instance,
                "delay_ms": strike.delay_ms,
            });
            let hit = ask(&running, "POST", "strikes", Some(&asked))?;
            for id in hit["instances"].as_array().into_iter().flatten() {
                out::stdout_line(id.as_str().unwrap_or_default());
            }
        }
        Some(FaultsCommand::Clear(clear)) => {
            let query = clear.id.as_ref().map(|id| format!("?id={id}")).unwrap_or_default();
            let cleared = ask(&running, "DELETE", &format!("faults{query}"), None)?;
            if let Some(id) = clear.id.filter(|_| cleared["cleared"] == 0) {
                return Err(Failure::new(format!("there is no fault \"{id}\""))
                    .hint("`karat lab faults` lists them"));
            }
        }
        None => {
            let list = ask(&running, "GET", "faults", None)?;
            if args.json {
                out::stdout_line(&list.to_string());
                return Ok(());
            }
            let rules: Vec<Rule> = serde_json::from_value(list)?;
            for rule in rules {
                out::stdout_line(&describe(&rule));
            }
        }
    }
    Ok(())
}

fn describe(rule: &Rule) -> String {
    let mut line = format!("{}  {:13}  {}", rule.id, rule.kind.as_str(), rule.calls);
    if rule.share < 1.0 {
        line.push_str(&format!("  share {}", rule.share));
    }
    if rule.delay_ms > 0 {
        line.push_str(&format!("  {} ms", rule.delay_ms));
    }
    if let Some(code) = &rule.code {
        line.push_str(&format!("  {code}"));
    }
    if let Some(left) = rule.count {
        line.push_str(&format!("  {left} left"));
    }
    format!("{line}  {} hits", rule.hits)
}

fn audit(dir: &Path, args: &AuditArgs) -> Result<(), Failure> {
    let running = found(dir)?;
    let mut left: Vec<Leftover> = serde_json::from_value(ask(&running, "GET", "audit", None)?)?;
    left.retain(|item| !(args.images && item.image));
    if args.json {
        out::stdout_line(&json!(left).to_string());
    } else {
        for item in &left {
            let Leftover { region, kind, id, detail, .. } = item;
            let region = if region.is_empty() { "-" } else { region };
            out::stdout_line(format!("{region:15}  {kind:16}  {id}  {detail}").trim_end());
        }
    }
    if left.is_empty() { Ok(()) } else { Err(Failure::Reported) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_reach_a_shell_as_they_are() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
