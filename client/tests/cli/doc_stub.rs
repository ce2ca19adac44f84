// For the examples of the documentation: a region that takes posts and shows an empty page, and one
// where nobody listens. Included by the examples themselves.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

pub fn dead() -> String {
    "http://127.0.0.1:1".to_owned()
}

pub async fn start() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            std::thread::spawn(move || serve(socket));
        }
    });
    url
}

fn serve(socket: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(socket.try_clone().ok()?);
    let mut socket = socket;
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).ok()? == 0 {
            return None;
        }
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let message = r#"{"id":"m1","conversation":"c1","position":"p1","sender":"ana","text":"hello",
            "revision":"original","edited":false,"merged":false,"redacted":false,"reply_to":null,
            "mentions":[],"reactions":{},"created_at":"2026-01-02T03:04:05.678Z","region":"us",
            "acked_by":["us"]}"#;
        let answer = match first.split(' ').next()? {
            "GET" if first.contains("/v1/regions") => r#"{"self":"us","regions":[]}"#,
            "GET" => r#"{"messages":[],"prev":null,"next":null,"cursor":"x","unread_older":0}"#,
            _ => message,
        };
        let length = answer.len();
        let head = "HTTP/1.1 200 OK\r\nwhimbrel-region: us\r\nwhimbrel-cursor: AQ";
        write!(socket, "{head}\r\ncontent-length: {length}\r\n\r\n{answer}").ok()?;
    }
}
