//! Bootstraps a base and installs packages on it, printing how long each part takes.
//!
//! `bootstrap STATE CACHE SUITE PACKAGES [PACKAGES-ON-TOP]`, with packages apart by commas.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use karat_layers::{Bootstrap, Control, Install, Progress, Resolving, Store};

#[expect(clippy::print_stdout, reason = "a program for people")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().ok_or("usage: bootstrap STATE CACHE SUITE PACKAGES [ON-TOP]");
    let (state, cache, suite, packages) = (next()?, next()?, next()?, next()?);
    let on_top = next().ok();
    let list = |text: &str| -> Vec<String> {
        text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    let start = Instant::now();
    let verbose = std::env::var_os("VERBOSE").is_some();
    let control = Control::new(Arc::new(AtomicBool::new(false)), move |progress| match progress {
        Progress::Phase(words) => println!("{:7.2} {words}", start.elapsed().as_secs_f64()),
        Progress::Output(line) if verbose => {
            println!("{:7.2}   {line}", start.elapsed().as_secs_f64());
        }
        Progress::Warning(words) => {
            println!("{:7.2} warning: {words}", start.elapsed().as_secs_f64());
        }
        _ => {}
    });
    let store = Store::open(state)?;
    let spec = Bootstrap { suite, packages: list(&packages), ..Bootstrap::default() };
    let how = Resolving::default();
    let base = store.bootstrap("example", cache.as_ref(), &spec, &how, &control)?;
    let (mb, at) = (base.info.size / 1_000_000, start.elapsed().as_secs_f64());
    println!("{at:7.2} base {} {mb} MB, {} entries", base.digest, base.info.entries);
    if let Some(packages) = on_top {
        let spec = Install { packages: list(&packages), ..Install::default() };
        let top = store.install_packages(
            "example",
            cache.as_ref(),
            base.digest,
            &spec,
            &how,
            &control,
        )?;
        let (mb, at) = (top.info.size / 1_000_000, start.elapsed().as_secs_f64());
        println!("{at:7.2} top {} {mb} MB, {} entries", top.digest, top.info.entries);
        let entries = store.merged_entries(top.digest)?.len();
        println!("{:7.2} {entries} entries in all", start.elapsed().as_secs_f64());
    }
    Ok(())
}
