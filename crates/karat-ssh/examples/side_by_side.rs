//! Times the same session side by side: Karat's, Packer's, and `tar | ssh` as a measure of what
//! the way itself costs. Each directly and with a longer round trip.
//!
//! `side_by_side KARAT`: the program that builds the same template as Packer does.
#![expect(clippy::print_stdout, reason = "an example prints what it measured")]

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use karat_testing::relay::Relay;
use karat_testing::sshd::Sshd;

type Done<T> = Result<T, Box<dyn Error>>;

/// Runs of each; the median counts.
const RUNS: usize = 3;

fn main() -> Done<()> {
    let [karat] = &std::env::args().skip(1).collect::<Vec<_>>()[..] else {
        return Err("usage: side_by_side KARAT".into());
    };
    if let Some(why) = karat_testing::sshd::missing() {
        return Err(why.into());
    }
    let server = Sshd::start(&[])?;
    let key = server.user_key()?;
    let (folder, file) = (server.path("two hundred"), server.path("large"));
    make(&folder, &file)?;
    for round_trip in [0, 100] {
        let relay = Relay::start(server.port(), Duration::from_millis(round_trip))?;
        let place = Place { server: &server, port: relay.port(), key: &key, folder: &folder };
        let build = |program: &str, name: &str| {
            let template = server.path("session.pkr.hcl");
            fs::write(&template, place.template(&file, &place.fresh(name)?))?;
            let mut command = Command::new(program);
            command.env("CHECKPOINT_DISABLE", "1").env("HOME", server.path(""));
            command.env("KARAT_STATE_DIR", server.path("state"));
            command.env("KARAT_CACHE_DIR", server.path("cache"));
            timed(command.arg("build").arg(&template))
        };
        let ours = median(|| build(karat, "karat"))?;
        let packer = median(|| build("packer", "packer"))?;
        let bare = median(|| {
            let mut command = Command::new("sh");
            command.args([
                "-c",
                "tar -cf - -C \"$1\" . -C \"$2\" large | ssh -q -i \"$3\" -p \"$4\" \
                -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null root@127.0.0.1 \
                \"mkdir -p '$5' && tar -xof - -C '$5'\"",
                "sh",
            ]);
            command.arg(&folder).arg(server.path("")).arg(&key).arg(place.port.to_string());
            command.arg(place.fresh("tar")?);
            timed(&mut command)
        })?;
        println!(
            "{round_trip:3} ms: karat {ours:6.2} s   packer {packer:6.2} s   tar|ssh {bare:6.2} s   \
             karat/packer 1/{:.1}   karat/(tar|ssh) {:.2}",
            packer / ours,
            ours / bare
        );
    }
    Ok(())
}

struct Place<'a> {
    server: &'a Sshd,
    port: u16,
    key: &'a Path,
    folder: &'a Path,
}

impl Place<'_> {
    /// An empty folder for what arrives: nothing is there already.
    fn fresh(&self, name: &str) -> Done<String> {
        let path = self.server.path(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path)?;
        Ok(path.to_str().ok_or("the path is no text")?.to_owned())
    }

    fn template(&self, file: &Path, target: &str) -> String {
        format!(
            r#"source "null" "far" {{
  communicator         = "ssh"
  ssh_host             = "127.0.0.1"
  ssh_port             = {}
  ssh_username         = "root"
  ssh_private_key_file = "{}"
}}
build {{
  sources = ["source.null.far"]
  provisioner "shell" {{
    inline = ["echo hello 0"]
  }}
  provisioner "shell" {{
    inline = ["echo hello 1"]
  }}
  provisioner "shell" {{
    inline = ["echo hello 2"]
  }}
  provisioner "file" {{
    source      = "{}"
    destination = "{target}"
  }}
  provisioner "file" {{
    source      = "{}"
    destination = "{target}/large"
  }}
}}
"#,
            self.port,
            self.key.display(),
            self.folder.display(),
            file.display()
        )
    }
}

/// 200 small files and one of 20 MB that does not compress.
fn make(folder: &Path, file: &Path) -> Done<()> {
    fs::create_dir(folder)?;
    for i in 0..200 {
        fs::write(folder.join(format!("file-{i}.conf")), format!("setting {i} = on\n").repeat(60))?;
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(20 << 20);
    while bytes.len() < 20 << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    Ok(fs::write(file, bytes)?)
}

fn timed(command: &mut Command) -> Done<f64> {
    command.stdin(Stdio::null());
    let start = Instant::now();
    let output = command.output()?;
    let took = start.elapsed().as_secs_f64();
    if !output.status.success() {
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        return Err(format!("{command:?} failed:\n{out}{err}").into());
    }
    Ok(took)
}

fn median(mut run: impl FnMut() -> Done<f64>) -> Done<f64> {
    let mut times = (0..RUNS).map(|_| run()).collect::<Done<Vec<f64>>>()?;
    times.sort_by(f64::total_cmp);
    Ok(times[RUNS / 2])
}
