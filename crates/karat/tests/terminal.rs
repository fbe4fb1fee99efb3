//! `karat console` at a terminal: lines are edited, remembered and completed.

#![expect(clippy::unwrap_used, reason = "a test may fail so")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::pty::openpty;

/// On a busy computer.
const PATIENCE: Duration = Duration::from_secs(60);

struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn new(home: &Path) -> Self {
        let pty = openpty(None, None).unwrap();
        let side = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = Command::new(env!("CARGO_BIN_EXE_karat"))
            .args(["console", "-config-type=hcl2"])
            .env_clear()
            .env("HOME", home)
            .env("TERM", "xterm")
            .env("KARAT_STATE_DIR", home.join("state"))
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .unwrap();
        drop(pty.slave);
        let keyboard = File::from(pty.master);
        let mut reader = keyboard.try_clone().unwrap();
        let (send, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                if send.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut terminal = Self { child, keyboard, screen, seen: String::new() };
        terminal.wait_for("> ");
        terminal
    }

    /// Waits until a text appears after what was waited for before.
    fn wait_for(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let Ok(more) = self.screen.recv_timeout(PATIENCE) else {
                panic!("\"{text}\" does not come; there is {:?}", self.seen);
            };
            self.seen.push_str(&String::from_utf8_lossy(&more));
        }
        let end = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..end);
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn ends(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn lines_are_edited_remembered_and_completed() {
    let home = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::new(home.path());
    // A digit that is taken back, and one that is put before the others.
    terminal.press("20 + 39\x7f\x011\r");
    terminal.wait_for("\n123");
    terminal.wait_for("> ");
    // Ctrl-C drops the line, and does not end the console.
    terminal.press("nosuch(\x03");
    terminal.wait_for("> ");
    // Tab completes.
    terminal.press("signu\t-7)\r");
    terminal.wait_for("\n-1");
    terminal.wait_for("> ");
    terminal.press("\x04");
    terminal.ends();
    // The next session knows the lines of the one before.
    let mut terminal = Terminal::new(home.path());
    terminal.press("\x1b[A\x1b[A");
    terminal.wait_for("120 + 3");
    terminal.press("\r");
    terminal.wait_for("\n123");
    terminal.wait_for("> ");
    terminal.press("exit\r");
    terminal.ends();
}
