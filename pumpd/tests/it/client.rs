//! A client that writes and reads its socket itself.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use pump_test::TestCluster;

/// A request that is answered with 200 by any worker.
pub(crate) const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: social.example\r\n\r\n";

/// A connection of a client that waits for up to 30 s.
pub(crate) fn connect(cluster: &TestCluster) -> TcpStream {
    let stream = TcpStream::connect(cluster.address().to_string()).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket option");
    stream
}

/// Reads an answer with a `content-length`, head and body, in lower case.
pub(crate) fn answer(stream: &mut impl Read) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    let head = loop {
        assert_eq!(stream.read(&mut byte).expect("an answer"), 1, "closed before an answer");
        text.push(byte[0]);
        if text.ends_with(b"\r\n\r\n") {
            break String::from_utf8_lossy(&text).to_ascii_lowercase();
        }
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.expect("a length").parse().expect("a number")];
    stream.read_exact(&mut body).expect("the whole body");
    head + &String::from_utf8_lossy(&body)
}

/// The generation that wrote an answer.
pub(crate) fn generation(answer: &str) -> u64 {
    let line = answer.lines().find_map(|line| line.strip_prefix("pump-generation: "));
    let first = line.expect("the header").split(' ').next().expect("a word");
    first.parse().expect("a number")
}
