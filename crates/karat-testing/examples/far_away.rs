//! Makes servers of this computer far away, for programs that are measured.
//!
//! `far_away ROUND_TRIP_MS TARGET_PORT` prints two ports of 127.0.0.1: one leads to the target, the
//! other is a SOCKS proxy (version 5, no login) to any address of this computer. What goes through
//! either takes the round trip longer. Ends with its standard input.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use karat_testing::relay::Relay;

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1).map(|word| word.parse::<u16>());
    let (Some(Ok(round_trip)), Some(Ok(target))) = (args.next(), args.next()) else {
        return Err(io::Error::other("usage: far_away ROUND_TRIP_MS TARGET_PORT"));
    };
    let round_trip = Duration::from_millis(u64::from(round_trip));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                // A client that gives up is no concern of the others.
                let _ = proxy(client);
            });
        }
    });
    let direct = Relay::start(target, round_trip)?;
    let socks = Relay::start(near, round_trip)?;
    let mut out = io::stdout();
    writeln!(out, "{} {}", direct.port(), socks.port())?;
    out.flush()?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

/// RFC 1928: a greeting, a request to connect to an IPv4 address, and bytes.
fn proxy(mut client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut head = [0; 2];
    client.read_exact(&mut head)?;
    let mut methods = vec![0; usize::from(head[1])];
    client.read_exact(&mut methods)?;
    client.write_all(&[5, 0])?;
    let mut request = [0; 10];
    client.read_exact(&mut request)?;
    let [5, 1, 0, 1, a, b, c, d, high, low] = request else {
        return Err(io::Error::other("only IPv4 addresses are connected to"));
    };
    let address = SocketAddr::from((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])));
    let answer = |code: u8| [5, code, 0, 1, 0, 0, 0, 0, 0, 0];
    let server = match TcpStream::connect(address) {
        Ok(server) => server,
        Err(error) => {
            // "Connection refused".
            client.write_all(&answer(5))?;
            return Err(error);
        }
    };
    server.set_nodelay(true)?;
    client.write_all(&answer(0))?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    let up = std::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    let _ = io::copy(&mut &server, &mut &client);
    let _ = client.shutdown(std::net::Shutdown::Write);
    let _ = up.join();
    Ok(())
}
