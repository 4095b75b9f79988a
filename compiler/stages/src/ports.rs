//! EXPOSE: `[ip:][host:]port[-end][/protocol]`.

/// What one word says, and what is odd about it.
#[derive(Debug, PartialEq)]
pub(crate) struct Ports {
    /// `port/protocol`, one each.
    pub(crate) keys: Vec<String>,
    /// It names an address or a port of the host, which means nothing here.
    pub(crate) host: bool,
    /// The protocol has capitals.
    pub(crate) capitals: bool,
}

/// Reads one word.
pub(crate) fn read(word: &str) -> Result<Ports, String> {
    let (port, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let lower = protocol.to_lowercase();
    if !matches!(lower.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid port: \"{word}\": invalid proto: {protocol}"));
    }
    let (host, container) = port.rsplit_once(':').map_or((false, port), |(_, container)| (true, container));
    let wrong = || format!("invalid containerPort: {container}");
    let (first, last) = container.split_once('-').unwrap_or((container, container));
    let number = |text: &str| if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse::<u16>().ok() } else { None };
    let (first, last) = (number(first).ok_or_else(wrong)?, number(last).ok_or_else(wrong)?);
    if first > last {
        return Err(wrong());
    }
    Ok(Ports { keys: (first..=last).map(|port| format!("{port}/{lower}")).collect(), host, capitals: lower != protocol })
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn reads_ports_as_docker_does() {
        let keys = |word: &str| read(word).map(|ports| ports.keys.join(" "));
        let cases = [
            ("80", "80/tcp"),
            ("90/udp", "90/udp"),
            ("100-102", "100/tcp 101/tcp 102/tcp"),
            ("127.0.0.1::53/udp", "53/udp"),
            ("8080:80", "80/tcp"),
            ("80/TCP", "80/tcp"),
            ("5/sctp", "5/sctp"),
            ("0.0.0.0:80:8080", "8080/tcp"),
            ("[::1]:80:81", "81/tcp"),
        ];
        for (word, expected) in cases {
            assert_eq!(keys(word).as_deref(), Ok(expected), "{word}");
        }
        assert_eq!(keys("80/foo"), Err("invalid port: \"80/foo\": invalid proto: foo".to_owned()));
        for wrong in ["99999", "3-1", "abc", "", "1-", "+80"] {
            assert_eq!(keys(wrong), Err(format!("invalid containerPort: {wrong}")));
        }
    }
}
