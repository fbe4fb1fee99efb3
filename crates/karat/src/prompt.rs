//! Questions to the person at the terminal.

use std::io::{BufRead, IsTerminal};

use async_trait::async_trait;
use karat_component::{ComponentError, Prompt};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::report::out;

/// Asks on the terminal, one question at a time.
#[derive(Debug, Default)]
pub(crate) struct Terminal {
    one: Mutex<()>,
}

#[async_trait]
impl Prompt for Terminal {
    async fn ask(
        &self,
        question: &str,
        cancel: &CancellationToken,
    ) -> Result<String, ComponentError> {
        let _one = self.one.lock().await;
        if !std::io::stdin().is_terminal() {
            return Err(ComponentError::new("there is nobody to ask: the input is no terminal")
                .with_hint("run it in a terminal, or without -debug and -on-error=ask"));
        }
        out::stdout(question);
        // A read from a terminal cannot be taken back; the thread ends with the process.
        let read = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).map(|n| (n, line))
        });
        tokio::select! {
            () = cancel.cancelled() => Err(ComponentError::cancelled()),
            read = read => match read {
                Ok(Ok((1.., line))) => Ok(line.trim_end_matches(['\n', '\r']).to_owned()),
                _ => Err(ComponentError::new("the input ended before the question was answered")),
            },
        }
    }
}

/// Has nobody to ask: `-machine-readable`, `--json`.
#[derive(Debug)]
pub(crate) struct Nobody;

#[async_trait]
impl Prompt for Nobody {
    async fn ask(&self, _: &str, _: &CancellationToken) -> Result<String, ComponentError> {
        Err(ComponentError::new("questions cannot be asked with -machine-readable or --json"))
    }
}
