//! Amazon's own agent, started in an instance, registers with the lab and serves our client. Runs
//! where the variable `KARAT_TEST_SSM_AGENT` names the folder with the agent's programs:
//! `amazon-ssm-agent`, `ssm-agent-worker`, `ssm-session-worker`, `ssm-document-worker`.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::cloud::{PATIENCE, cloud, text};
use crate::sessions::{FORWARD, file_through, profile};

/// The agent speaks https and wss alone: a relay in the instance ends them before the lab.
const PREPARE: &str = r#"
set -e
sudo tar -x -C /usr/bin --no-same-owner -f /tmp/agent.tar
sudo mkdir -p /etc/amazon/ssm /srv/web
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=lab.internal \
  -addext subjectAltName=DNS:lab.internal -keyout /tmp/key.pem -out /tmp/cert.pem 2>/dev/null
echo '127.0.0.2 lab.internal' | sudo tee -a /etc/hosts >/dev/null
cat /etc/ssl/certs/ca-certificates.crt /tmp/cert.pem | sudo tee /srv/trusted.pem >/dev/null
cat >/tmp/relay.py <<'EOF'
import asyncio, ssl
async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()
async def serve(reader, writer):
    lab = await asyncio.open_connection("169.254.169.250", 80)
    await asyncio.gather(copy(reader, lab[1]), copy(lab[0], writer))
async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/tmp/cert.pem", "/tmp/key.pem")
    server = await asyncio.start_server(serve, "127.0.0.2", 443, ssl=context)
    await server.serve_forever()
asyncio.run(main())
EOF
cat >/tmp/config.json <<'EOF'
{ "Mds": { "Endpoint": "lab.internal" }, "Ssm": { "Endpoint": "lab.internal" },
  "Mgs": { "Region": "us-east-1", "Endpoint": "lab.internal" },
  "Agent": { "Region": "us-east-1" }, "Kms": { "Endpoint": "lab.internal" } }
EOF
sudo cp /tmp/config.json /etc/amazon/ssm/amazon-ssm-agent.json
head -c 3000000 /dev/urandom | base64 | head -c 2000000 | sudo tee /srv/web/file >/dev/null
sha256sum < /srv/web/file | head -c 64 | sudo tee /srv/web/sum >/dev/null
sudo systemd-run --working-directory=/srv/web python3 -m http.server --bind 127.0.0.1 8000
sudo systemd-run python3 /tmp/relay.py
sudo systemd-run --unit ssm-agent --setenv=SSL_CERT_FILE=/srv/trusted.pem \
  --setenv=NO_PROXY='*' /usr/bin/amazon-ssm-agent
"#;

#[test]
fn amazons_agent_registers_and_serves_our_client() {
    let Some(folder) = std::env::var_os("KARAT_TEST_SSM_AGENT") else { return };
    let Some(cloud) = cloud() else { return };
    profile(&cloud);
    cloud.aws(
        "iam attach-role-policy --role-name agent \
         --policy-arn arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore",
    );
    let (key, group) = (cloud.key("k"), cloud.group("g"));
    let id = cloud.launch(&format!(
        "--image-id {} --key-name k --security-group-ids {group} --iam-instance-profile Name=agent",
        cloud.base()
    ));
    let to = format!("admin@{}", text(&cloud.wait_for(&id, "running")["PublicIpAddress"]));
    cloud.ssh(&key, &to, "cloud-init status --wait >/dev/null; true");
    let archive = cloud.dir.path().join("agent.tar");
    let packed = std::process::Command::new("tar")
        .args(["-c", "--mode=755", "-f"])
        .arg(&archive)
        .arg("-C")
        .arg(&folder)
        .args(["amazon-ssm-agent", "ssm-agent-worker", "ssm-session-worker", "ssm-document-worker"])
        .status()
        .unwrap();
    assert!(packed.success());
    let mut copy = cloud.ssh_command(&key, &to, "cat > /tmp/agent.tar");
    let archive = std::fs::File::open(archive).unwrap();
    assert!(copy.stdin(Stdio::from(archive)).status().unwrap().success());
    cloud.ssh(&key, &to, PREPARE);

    let begun = Instant::now();
    let log = || std::fs::read_to_string(cloud.state().join("lab/lab.log")).unwrap();
    while !log().contains("the instance's own agent is connected") {
        if begun.elapsed() > PATIENCE {
            let said = cloud.ssh(
                &key,
                &to,
                "sudo journalctl --no-pager -u ssm-agent | tail -n 80; \
                 sudo tail -n 80 /var/log/amazon/ssm/*.log",
            );
            panic!("the agent does not come:\n{said}");
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    let all = cloud.aws("ssm describe-instance-information");
    let shown = &all["InstanceInformationList"][0];
    assert_eq!(shown["InstanceId"], id.as_str());
    // The lab's own agent says another version.
    assert_ne!(shown["AgentVersion"], "3.0.196.0", "{all}");

    let (sum, _) = file_through(&cloud, &id, "/sum", None, FORWARD);
    let (file, connections) = file_through(&cloud, &id, "/file", None, FORWARD);
    assert_eq!((file.len(), connections), (2_000_000, 1));
    assert_eq!(crate::sessions::hex_digest(&file).as_bytes(), sum);
    // The sessions were the agent's, and it has ended them.
    let begun = Instant::now();
    loop {
        let open = cloud.aws("ssm describe-sessions --state Active");
        if open["Sessions"].as_array().is_some_and(Vec::is_empty) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{open}");
        std::thread::sleep(Duration::from_millis(500));
    }
    let said = cloud.ssh(&key, &to, "sudo ls /var/lib/amazon/ssm");
    assert!(said.contains(id.as_str()), "{said}");
}
