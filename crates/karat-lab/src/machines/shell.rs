//! Shells of sessions: a terminal in the instance.

use std::io;

use async_trait::async_trait;
use karat_component::Output;
use karat_machine::runtime::{Exec, Machine};
use karat_ssm::{Io, Target};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// A shell with a terminal of its own, of a user that may become root, as Amazon's agent gives.
pub(super) struct Shell {
    machine: Machine,
    command: Option<String>,
    /// The file in the instance that names its terminal.
    terminal: String,
    /// Columns and rows, once the client has told them.
    size: watch::Sender<Option<(u32, u32)>>,
}

/// Makes the user and starts what is in `KARAT_COMMAND`, or a login shell. `script` gives it a
/// terminal, whose name goes into the file `KARAT_TERMINAL`.
const ENTER: &str = "id ssm-user >/dev/null 2>&1 || { \
    useradd --create-home --shell /bin/bash ssm-user && \
    mkdir -p /etc/sudoers.d && \
    echo 'ssm-user ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/ssm-agent-users && \
    chmod 0440 /etc/sudoers.d/ssm-agent-users; } >/dev/null 2>&1; \
    export TERM=${TERM:-xterm-256color}; \
    if [ -n \"$KARAT_COMMAND\" ]; then \
    exec script --quiet --return --flush --command \
    'tty > \"$KARAT_TERMINAL\"; \
    exec su --login ssm-user --whitelist-environment=TERM,KARAT_COMMAND \
    --command \"exec sh -c \\\"\\$KARAT_COMMAND\\\"\"' /dev/null; \
    else exec script --quiet --return --flush --command \
    'tty > \"$KARAT_TERMINAL\"; \
    exec su --login ssm-user --whitelist-environment=TERM' /dev/null; fi";

/// Gives the terminal its size, as soon as it is there. The kernel tells the programs in it.
const RESIZE: &str = "i=0; while [ ! -s \"$KARAT_TERMINAL\" ] && [ $i -lt 600 ]; do \
    i=$((i+1)); sleep 0.1; done; \
    stty -F \"$(cat \"$KARAT_TERMINAL\")\" rows \"$ROWS\" cols \"$COLUMNS\"";

impl Shell {
    pub(super) fn new(machine: Machine, session: &str, command: Option<String>) -> Self {
        let terminal = format!("/run/karat-session-{session}");
        Self { machine, command, terminal, size: watch::Sender::new(None) }
    }
}

/// Follows the client's terminal until the session ends.
async fn follow(machine: Machine, terminal: String, mut size: watch::Receiver<Option<(u32, u32)>>) {
    loop {
        let told = *size.borrow_and_update();
        if let Some((columns, rows)) = told {
            let mut exec = Exec::shell(RESIZE);
            exec.env.insert("KARAT_TERMINAL".into(), terminal.clone());
            exec.env.insert("COLUMNS".into(), columns.to_string());
            exec.env.insert("ROWS".into(), rows.to_string());
            if let Err(error) = machine.exec(exec).await {
                tracing::debug!(terminal, %error, "a terminal keeps its size");
            }
        }
        if size.changed().await.is_err() {
            return;
        }
    }
}

#[async_trait]
impl Target for Shell {
    async fn open(&self) -> io::Result<Box<dyn Io>> {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (input, mut output) = tokio::io::split(theirs);
        let (said, mut chunks) = mpsc::unbounded_channel::<Vec<u8>>();
        let mut exec = Exec::shell(ENTER);
        exec.stdin = Some(Box::new(input));
        exec.output = Output::new(move |_, bytes| {
            // Nobody reads when the session is over.
            let _ = said.send(bytes.to_vec());
        });
        exec.env.insert("KARAT_TERMINAL".into(), self.terminal.clone());
        if let Some(command) = &self.command {
            exec.env.insert("KARAT_COMMAND".into(), command.clone());
        }
        let cancel = CancellationToken::new();
        exec.cancel = cancel.clone();
        let machine = self.machine.clone();
        let running = tokio::spawn(async move { machine.exec(exec).await.map(drop) });
        let (machine, terminal) = (self.machine.clone(), self.terminal.clone());
        let following =
            tokio::spawn(follow(machine.clone(), terminal.clone(), self.size.subscribe()));
        tokio::spawn(async move {
            while let Some(chunk) = chunks.recv().await {
                if output.write_all(&chunk).await.is_err() {
                    break;
                }
            }
            // Either it has ended and said all, or nobody listens any more.
            let _ = output.shutdown().await;
            cancel.cancel();
            following.abort();
            let _ = running.await;
            let _ = machine.exec(Exec::new(["rm", "-f", &terminal])).await;
        });
        Ok(Box::new(ours))
    }

    fn resize(&self, columns: u32, rows: u32) {
        self.size.send_if_modified(|size| {
            let changed = *size != Some((columns, rows));
            *size = Some((columns, rows));
            changed
        });
    }

    fn ends(&self) -> bool {
        true
    }
}
