//! A program for the tests: a machine's keeper, or a build that holds a machine until it is killed.
//!
//! `probe hold ID LAYER WORK [COMMAND]` starts a machine, writes a word at each stage, and runs a
//! command, by default one that never ends.

use std::io::Write;
use std::process::ExitCode;

use karat_machine::runtime::{Exec, Machine, MachineSpec, SUPERVISOR_COMMAND, supervisor_main};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(word) if word == SUPERVISOR_COMMAND => supervisor_main(arguments),
        Some(word) if word == "hold" => {
            let [id, layer, work, command] = [(); 4]
                .map(|()| arguments.next().and_then(|a| a.into_string().ok()).unwrap_or_default());
            let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
            match runtime.block_on(hold(&id, &layer, &work, &command)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    say(&error.to_string());
                    ExitCode::FAILURE
                }
            }
        }
        _ => ExitCode::from(2),
    }
}

fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{word}");
    let _ = out.flush();
}

async fn hold(
    id: &str,
    layer: &str,
    work: &str,
    command: &str,
) -> karat_machine::runtime::Result<()> {
    let cancel = CancellationToken::new();
    let machine = Machine::prepare(MachineSpec::new(id, vec![layer.into()], work), &cancel).await?;
    say("prepared");
    machine.run(&cancel).await?;
    say("running");
    let command = if command.is_empty() { "sleep 1000 & sleep 1000" } else { command };
    say(&machine.output_of(Exec::shell(command)).await?.1);
    machine.stop(std::time::Duration::from_secs(20)).await?;
    say("stopped");
    Ok(())
}
