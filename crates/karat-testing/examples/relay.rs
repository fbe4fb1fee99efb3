//! Relays a port of 127.0.0.1 to another one and makes every round trip longer.
//!
//! `relay PORT TARGET MILLISECONDS`; ends when killed.

use std::time::Duration;

use karat_testing::relay::Relay;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, port, target, millis] = args.as_slice() else {
        return Err("usage: relay PORT TARGET MILLISECONDS".into());
    };
    let delay = Duration::from_millis(millis.parse()?);
    let _relay = Relay::start_on(port.parse()?, target.parse()?, delay)?;
    loop {
        std::thread::park();
    }
}
