//! The session that `benches/ssh` times: three inline shells, a folder, a file.
//!
//! `provision PORT KEY FOLDER FILE TARGET`
#![expect(clippy::print_stdout, reason = "an example prints what it measured")]

use std::sync::Arc;
use std::time::Instant;

use karat_component::{Events, Masker, RemoteFile};
use karat_ssh::{SeenHostKeys, Session, SshConfig};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, port, key, folder, file, target] = args.as_slice() else {
        return Err("usage: provision PORT KEY FOLDER FILE TARGET".into());
    };
    let config = SshConfig {
        ssh_host: "127.0.0.1".into(),
        ssh_port: port.parse()?,
        ssh_username: "root".into(),
        ssh_private_key_file: key.clone(),
        ..SshConfig::default()
    };
    let cancel = CancellationToken::new();
    let start = Instant::now();
    let lap = |what: &str| println!("{:7.3} {what}", start.elapsed().as_secs_f64());
    let events = Events::new(Masker::new(), |e| println!("        {:?}", e.kind));
    let session = Session::connect(config, SeenHostKeys::default(), events, &cancel).await?;
    lap("connected");
    for i in 0..3 {
        let path = format!("/tmp/karat-provision-{i}.sh");
        let script = RemoteFile {
            path: path.clone(),
            mode: 0o755,
            content: Arc::from(format!("#!/bin/sh -e\necho hello {i}\n").into_bytes()),
        };
        let line = format!("chmod +x {path}; PACKER_BUILD_NAME='x' {path}");
        let ended = session
            .run_script(&[script], &line, true, &cancel, |_, bytes| {
                println!("        {}", String::from_utf8_lossy(bytes).trim());
            })
            .await?;
        lap(&format!("script {i}: {ended}"));
    }
    session.upload_dir(folder.as_ref(), target, &cancel).await?;
    lap("folder");
    let mut content = tokio::fs::File::open(file).await?;
    session.upload(&mut content, &format!("{target}/large"), Some(0o644), &cancel).await?;
    lap("file");
    session.close().await;
    lap("closed");
    Ok(())
}
