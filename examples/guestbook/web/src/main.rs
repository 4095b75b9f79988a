//! A guestbook in one small program with three faces.
//!
//! - `guestbook web` serves the page and asks the store for its entries, by Service name.
//! - `guestbook store` keeps the entries in memory.
//! - `guestbook render DIR` writes the page's template, at build time, from the image's environment.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(2);
const LONGEST_BODY_BYTES: usize = 64 * 1024;
const MOST_ENTRIES: usize = 1000;

static ENTRIES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Request {
    method: String,
    path: String,
    body: String,
}

fn main() {
    let args: Vec<String> = env::args().collect();
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    let result = match words[..] {
        ["web"] => serve(web),
        ["store"] => serve(store),
        ["render", dir] => render(dir),
        _ => Err(io::Error::other("usage: guestbook web | store | render DIR")),
    };
    if let Err(error) = result {
        eprintln!("guestbook: {error}");
        std::process::exit(1);
    }
}

fn setting(name: &str, default: &str) -> String {
    env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}

/// Writes the page with a mark where the entries go.
fn render(dir: &str) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let page = "<!doctype html>\n<meta charset=utf-8>\n<title>{title}</title>\n\
        <style>body{font:16px/1.5 system-ui;max-width:40em;margin:3em auto;padding:0 1em}li{margin:.3em 0}small{color:#777}</style>\n\
        <h1>{title}</h1>\n<form method=post action=/sign><input name=entry autofocus required maxlength=200 size=40> <button>Sign</button></form>\n\
        <ul>\n{entries}</ul>\n<small>served by {pod}</small>\n";
    fs::write(format!("{dir}/index.html"), page)
}

fn serve(answer: fn(&Request) -> (u16, String)) -> io::Result<()> {
    let port = setting("PORT", "8080");
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    println!("listening on port {port}");
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            if let Err(error) = converse(&stream, answer) {
                eprintln!("a connection ended early: {error}");
            }
        });
    }
    Ok(())
}

fn converse(stream: &TcpStream, answer: fn(&Request) -> (u16, String)) -> io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    let request = read_request(&mut BufReader::new(stream))?;
    let (status, body) = answer(&request);
    let reason = if status == 200 { "OK" } else if status == 303 { "See Other" } else { "Error" };
    let extra = if status == 303 { "location: /\r\n" } else { "" };
    let kind = if body.starts_with('<') { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" };
    let head = format!("HTTP/1.1 {status} {reason}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n{extra}\r\n", body.len());
    let mut out = stream;
    out.write_all(head.as_bytes())?;
    out.write_all(body.as_bytes())
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Request> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let path = words.next().unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length.min(LONGEST_BODY_BYTES)];
    reader.read_exact(&mut body)?;
    Ok(Request { method, path, body: String::from_utf8_lossy(&body).into_owned() })
}

fn store(request: &Request) -> (u16, String) {
    let mut entries = ENTRIES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/healthz") => (200, "ok\n".to_owned()),
        ("GET", "/entries") => (200, entries.join("\n")),
        ("POST", "/entries") if entries.len() < MOST_ENTRIES => {
            entries.push(request.body.replace(['\n', '\r'], " "));
            (200, "kept\n".to_owned())
        }
        ("POST", "/entries") => (507, "the book is full\n".to_owned()),
        _ => (404, "nothing here\n".to_owned()),
    }
}

fn web(request: &Request) -> (u16, String) {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/healthz") => (200, "ok\n".to_owned()),
        ("GET", "/") => page(),
        ("POST", "/sign") => {
            let text = request.body.strip_prefix("entry=").map_or_else(|| request.body.clone(), unescape);
            match ask_store("POST", &text) {
                Ok(_) => (303, String::new()),
                Err(error) => (502, format!("the store does not answer: {error}\n")),
            }
        }
        _ => (404, "nothing here\n".to_owned()),
    }
}

fn page() -> (u16, String) {
    let template = fs::read_to_string(format!("{}/index.html", setting("SITE", "/site"))).unwrap_or_else(|_| "{entries}".to_owned());
    let entries = match ask_store("GET", "") {
        Ok(text) => text.lines().map(|entry| format!("<li>{}</li>\n", escape(entry))).collect(),
        Err(error) => format!("<li>the store does not answer: {}</li>\n", escape(&error.to_string())),
    };
    let page = template.replace("{title}", &escape(&setting("TITLE", "Guestbook"))).replace("{pod}", &escape(&setting("HOSTNAME", "somebody")));
    (200, page.replace("{entries}", &entries))
}

fn ask_store(method: &str, body: &str) -> io::Result<String> {
    let store = setting("STORE", "guestbook-store:8080");
    let address = store.to_socket_addrs()?.next().ok_or_else(|| io::Error::other(format!("{store} has no address")))?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "{method} /entries HTTP/1.1\r\nhost: {store}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("a short answer"))?;
    if head.starts_with("HTTP/1.1 200") { Ok(body.to_owned()) } else { Err(io::Error::other(body.trim().to_owned())) }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// `application/x-www-form-urlencoded` back to text.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let value = std::str::from_utf8(&digits).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
                bytes.push(value.unwrap_or(b'?'));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
