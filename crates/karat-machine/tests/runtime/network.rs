//! Networks: out, names, metadata, cloud-init, ssh, several machines.

use std::process::Command;
use std::time::Duration;

use karat_component::ExitStatus;
use karat_machine::runtime::{Exec, Machine, Network};
use tokio_util::sync::CancellationToken;

use super::common::{SUITES, folder, is_root, spec};

async fn shell(machine: &Machine, line: &str) -> String {
    machine.output_of(Exec::shell(line)).await.unwrap().1.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn cloud_init_ssh_and_the_world() {
    if !is_root() {
        return;
    }
    for suite in SUITES {
        let dir = folder();
        let key = dir.path().join("key");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key)
            .status()
            .unwrap();
        assert!(made.success());
        let cancel = CancellationToken::new();
        let mut spec = spec(&format!("kt-cloud-{suite}"), suite, dir.path());
        spec.hostname = "cloudy".into();
        spec.names.insert("other.internal".into(), [10, 9, 8, 7].into());
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        spec.metadata.public_keys = vec![public.trim().to_owned()];
        spec.metadata.user_data =
            b"#cloud-config\nwrite_files:\n- path: /etc/from-user-data\n  content: hello\n"
                .to_vec();
        let (machine, report) = Machine::start(spec, &cancel).await.unwrap();
        assert_eq!(report.state, "running", "{suite}: {:?}", report.failed_units);

        let status = shell(&machine, "cloud-init status --wait --long").await;
        assert!(status.contains("status: done"), "{suite}: {status}");
        assert!(status.contains("DataSourceNoCloud"), "{suite}: {status}");
        assert_eq!(shell(&machine, "cat /etc/from-user-data; uname -n").await, "hellocloudy");
        let token = "curl -sX PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' \
                     http://169.254.169.254/latest/api/token";
        assert!(!shell(&machine, token).await.is_empty());
        let id = "curl -s http://169.254.169.254/latest/meta-data/instance-id";
        assert_eq!(shell(&machine, id).await, format!("kt-cloud-{suite}"));

        // A web server of the machine's own has port 80 all to itself beside it. It reads what it
        // is asked: a connection that is closed with something unread is reset, answer and all.
        let serve = "cat >/run/systemd/system/web.socket <<'.'\n[Socket]\nListenStream=0.0.0.0:80\n\
                     Accept=yes\n.\nprintf '[Service]\\nStandardInput=socket\\n\
                     ExecStart=/bin/sh -c \"dd bs=9999 count=1 of=/dev/null status=none; echo mine\"\\n' \
                     >/run/systemd/system/web@.service; \
                     systemctl daemon-reload; systemctl start web.socket && \
                     curl -s --http0.9 http://127.0.0.1/";
        assert_eq!(shell(&machine, serve).await, "mine", "{suite}");
        assert_eq!(shell(&machine, id).await, format!("kt-cloud-{suite}"));

        let names = "getent ahostsv4 other.internal | head -1; getent ahostsv4 cloudy | head -1";
        let answer = shell(&machine, names).await;
        assert!(answer.contains("10.9.8.7"), "{answer}");
        assert!(answer.contains(&machine.address().unwrap().to_string()), "{answer}");
        let (status, out) =
            machine.output_of(Exec::shell("apt-get update 2>&1 && apt-get install -qy --no-install-recommends hello 2>&1 && hello")).await.unwrap();
        assert!(status.success(), "{suite}: {out}");
        assert!(out.contains("Hello, world!"), "{out}");

        let forward = machine.forward("127.0.0.1:0".parse().unwrap(), 22).await.unwrap();
        let port = forward.address().port().to_string();
        let output = tokio::process::Command::new("ssh")
            .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"])
            .args(["-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-p", &port, "-i"])
            .arg(&key)
            .args(["debian@127.0.0.1", "sudo -n true; id -un; uname -n"])
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            text,
            "debian\ncloudy\n",
            "{suite}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(machine.connect(1).await.is_err());
        machine.stop(Duration::from_secs(30)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn either_program_carries_packets_and_none_does_not() {
    if !is_root() {
        return;
    }
    let dir = folder();
    for (name, network, expected) in [
        ("slirp", Network::Slirp4netns, 0),
        ("pasta", Network::Pasta, 0),
        ("closed", Network::Closed, 100),
    ] {
        let mut spec = spec(&format!("kt-net-{name}"), "bookworm", dir.path());
        spec.boot = false;
        spec.network = network;
        let (machine, _) = Machine::start(spec, &CancellationToken::new()).await.unwrap();
        let out =
            machine.output_of(Exec::shell("apt-get update -o APT::Update::Error-Mode=any 2>&1"));
        let (status, text) = out.await.unwrap();
        assert_eq!(status, ExitStatus::Code(expected), "{name}: {text}");
        let id = shell(&machine, "curl -s http://169.254.169.254/latest/meta-data/instance-id");
        assert_eq!(id.await, format!("kt-net-{name}"));
        machine.stop(Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_side_by_side() {
    if !is_root() {
        return;
    }
    let dir = folder();
    let mut tasks = Vec::new();
    for n in 0..8 {
        let mut spec = spec(&format!("kt-side-{n}"), "bookworm", dir.path());
        spec.boot = n < 2;
        tasks.push(tokio::spawn(async move {
            let (machine, _) = Machine::start(spec, &CancellationToken::new()).await.unwrap();
            let name = shell(&machine, "uname -n").await;
            let listener = machine.listen("0.0.0.0:8080".parse().unwrap()).await.unwrap();
            let forward = machine.forward("127.0.0.1:0".parse().unwrap(), 8080).await.unwrap();
            let connected = tokio::net::TcpStream::connect(forward.address()).await.unwrap();
            let accepted = listener.accept().await.unwrap();
            drop((connected, accepted));
            machine.stop(Duration::from_secs(60)).await.unwrap();
            name
        }));
    }
    for (n, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), format!("kt-side-{n}"));
    }
}
