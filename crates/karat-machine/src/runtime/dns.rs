//! The machine's resolver: answers what it was told, carries the rest to the host's resolvers.
//!
//! The host's resolver may stand on the host's loopback, where the machine cannot reach it, so the
//! questions come here and are asked again from the host's network, byte for byte.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How long one resolver is waited for.
const PATIENCE: Duration = Duration::from_secs(4);
/// Questions under way at once; more are dropped, as the asker repeats them.
const AT_ONCE: usize = 256;

/// What the resolver knows itself. Names are in lower case, without a final dot.
pub(super) type Names = BTreeMap<String, Ipv4Addr>;

/// Serves until the sockets fail or the task is dropped. Without `ask_host` only own names are
/// answered, the rest is a failure.
pub(super) async fn serve(udp: UdpSocket, tcp: TcpListener, names: Names, ask_host: bool) {
    let names = Arc::new((names, ask_host));
    let udp = Arc::new(udp);
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    let mut packet = vec![0; 65_536];
    loop {
        while tasks.try_join_next().is_some() {}
        tokio::select! {
            asked = udp.recv_from(&mut packet) => {
                let Ok((length, from)) = asked else { return };
                let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
                let (question, udp) = (packet[..length].to_vec(), Arc::clone(&udp));
                let names = Arc::clone(&names);
                tasks.spawn(async move {
                    if let Some(answer) = answer(&question, &names, false).await {
                        let _ = udp.send_to(&answer, from).await;
                    }
                    drop(slot);
                });
            }
            accepted = tcp.accept() => {
                let Ok((stream, _)) = accepted else { return };
                let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
                let names = Arc::clone(&names);
                tasks.spawn(async move {
                    let _ = tokio::time::timeout(PATIENCE * 4, serve_stream(stream, &names)).await;
                    drop(slot);
                });
            }
        }
    }
}

async fn serve_stream(mut stream: TcpStream, names: &(Names, bool)) -> io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut question = vec![0; usize::from(length)];
        stream.read_exact(&mut question).await?;
        let Some(answer) = answer(&question, names, true).await else { return Ok(()) };
        write_framed(&mut stream, &answer).await?;
    }
}

async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend(message);
    stream.write_all(&framed).await
}

async fn answer(
    question: &[u8],
    (names, ask_host): &(Names, bool),
    stream: bool,
) -> Option<Vec<u8>> {
    if let Some(own) = own_answer(question, names) {
        return Some(own);
    }
    let resolvers = if *ask_host { host_resolvers() } else { Vec::new() };
    for resolver in resolvers {
        let asked = async {
            if stream {
                ask_stream(question, resolver).await
            } else {
                ask(question, resolver).await
            }
        };
        if let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, asked).await {
            return Some(answer);
        }
    }
    failure(question)
}

async fn ask(question: &[u8], resolver: SocketAddr) -> io::Result<Vec<u8>> {
    let any = if resolver.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(resolver).await?;
    socket.send(question).await?;
    let mut answer = vec![0; 65_536];
    loop {
        let length = socket.recv(&mut answer).await?;
        if answer.get(..2) == question.get(..2) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn ask_stream(question: &[u8], resolver: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    write_framed(&mut stream, question).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// The host's resolvers as they are now: a laptop changes networks during a build.
fn host_resolvers() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let mut all = parse_resolvers(&text);
    if all.is_empty() {
        all.push((Ipv4Addr::LOCALHOST, 53).into());
    }
    all
}

fn parse_resolvers(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| line.strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().parse::<IpAddr>().ok())
        .map(|ip| SocketAddr::new(ip, 53))
        .collect()
}

/// The name asked for and where the question ends, by RFC 1035, section 4.1.2.
fn asked_name(message: &[u8]) -> Option<(String, u16, usize)> {
    let count = u16::from_be_bytes([*message.get(4)?, *message.get(5)?]);
    (count == 1 && message.get(2)? & 0x80 == 0).then_some(())?;
    let mut name = String::new();
    let mut at = 12;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        (length < 64).then_some(())?;
        let label = message.get(at..at + length)?;
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(&String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]);
    message.get(at + 3)?;
    Some((name, kind, at + 4))
}

/// Answers a question about one of our names: its address for type A, nothing for other types.
fn own_answer(question: &[u8], names: &Names) -> Option<Vec<u8>> {
    const TYPE_A: u16 = 1;
    const SECONDS: u32 = 60;
    let (name, kind, end) = asked_name(question)?;
    let address = names.get(&name)?;
    let count = u16::from(kind == TYPE_A);
    let mut answer = header(question, 0x8580, count);
    answer.extend(&question[12..end]);
    if kind == TYPE_A {
        answer.extend([0xc0, 12]); // the name of the question
        answer.extend(TYPE_A.to_be_bytes());
        answer.extend(1u16.to_be_bytes()); // Internet
        answer.extend(SECONDS.to_be_bytes());
        answer.extend(4u16.to_be_bytes());
        answer.extend(address.octets());
    }
    Some(answer)
}

/// `SERVFAIL`, so that the asker need not wait.
fn failure(question: &[u8]) -> Option<Vec<u8>> {
    let (_, _, end) = asked_name(question)?;
    let mut answer = header(question, 0x8182, 0);
    answer.extend(&question[12..end]);
    Some(answer)
}

fn header(question: &[u8], flags: u16, answers: u16) -> Vec<u8> {
    let mut header = question[..2].to_vec();
    for word in [flags, 1, answers, 0, 0] {
        header.extend(word.to_be_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    #[test]
    fn own_names_are_answered_and_others_are_not() {
        let names = Names::from([("web.example".into(), Ipv4Addr::new(10, 1, 2, 3))]);
        let answer = own_answer(&question("WEB.example", 1), &names).unwrap();
        assert_eq!(&answer[..2], &[0xab, 0xcd]);
        assert_eq!(&answer[6..8], &[0, 1]);
        assert!(answer.ends_with(&[0, 4, 10, 1, 2, 3]));
        let empty = own_answer(&question("web.example", 28), &names).unwrap();
        assert_eq!(&empty[6..8], &[0, 0]);
        assert!(own_answer(&question("else.example", 1), &names).is_none());
    }

    #[test]
    fn broken_questions_are_not_answered() {
        let whole = question("web.example", 1);
        for length in 0..whole.len() {
            assert!(asked_name(&whole[..length]).is_none(), "{length}");
            assert!(failure(&whole[..length]).is_none(), "{length}");
        }
        assert_eq!(failure(&whole).unwrap()[3] & 0xf, 2);
    }

    #[test]
    fn resolvers_are_read_from_the_usual_file() {
        let text = "# x\nsearch a\nnameserver 10.0.0.1\nnameserver  ::1\nnameserver nonsense\n";
        let all = parse_resolvers(text);
        assert_eq!(all, ["10.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    }
}
