//! `--allow`, `--ulimit` and `--cgroup-parent`: what RUNs may do and use.

use rustix::process::{Resource, getrlimit};
use strake_plan::Ulimit;
use strake_stages::Rules;

use crate::args::Build;
use crate::failure::Failure;

/// Limits by the names that Docker gives them.
const LIMITS: [(&str, Resource); 16] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// What the arguments say about RUNs.
pub fn rules(args: &Build) -> Result<Rules, Failure> {
    // Who asks for the host's network for all allows it too.
    let mut rules = Rules { host_network: args.network.as_deref() == Some("host"), ..Rules::default() };
    for word in args.allow.iter().flat_map(|words| words.split(',')) {
        match word {
            "network.host" => rules.host_network = true,
            "security.insecure" => rules.insecure = true,
            "device" => return Err(Failure::text("--allow device: RUN --device is not supported: a step with RUN --security=insecure (--allow security.insecure) has the devices of this machine").with_code(2)),
            other => return Err(Failure::text(format!("--allow {other}: expected network.host or security.insecure")).with_code(2)),
        }
    }
    for word in &args.ulimits {
        let limit = ulimit(word).map_err(|wrong| Failure::text(format!("--ulimit {word}: {wrong}")).with_code(2))?;
        // The last of a name is meant.
        rules.ulimits.retain(|known: &Ulimit| known.name != limit.name);
        rules.ulimits.push(limit);
    }
    rules.ulimits.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rules)
}

/// `NAME=SOFT[:HARD]`; -1 is no limit.
fn ulimit(word: &str) -> Result<Ulimit, String> {
    let (name, values) = word.split_once('=').ok_or("expected NAME=SOFT[:HARD]")?;
    let names = || LIMITS.map(|(name, _)| name).join(", ");
    let (_, resource) = LIMITS.iter().find(|(known, _)| *known == name).ok_or_else(|| format!("there is no limit `{name}`; expected one of {}", names()))?;
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(None),
        text => text.parse::<u64>().map(Some).map_err(|_| format!("`{text}` is not a number")),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    let above = |a: Option<u64>, b: Option<u64>| a.unwrap_or(u64::MAX) > b.unwrap_or(u64::MAX);
    if above(soft, hard) {
        return Err("the soft limit is above the hard one".to_owned());
    }
    let ours = getrlimit(*resource).maximum;
    let may_raise = rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_RESOURCE));
    if above(hard, ours) && !may_raise {
        return Err(format!("strake itself has a hard limit of {} here, and may not raise it", ours.unwrap_or_default()));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

/// The cgroup below which those of RUNs are made; `None` is strake's own.
pub fn cgroup_parent(args: &Build) -> Result<Option<String>, Failure> {
    let Some(written) = &args.cgroup_parent else { return Ok(None) };
    let parts: Vec<&str> = written.split('/').filter(|part| !part.is_empty()).collect();
    let odd = |part: &&str| matches!(*part, "." | "..") || part.contains(char::is_control);
    if parts.is_empty() || parts.iter().any(odd) {
        return Err(Failure::text(format!("--cgroup-parent {written}: expected a path without `.` and `..`")).with_code(2));
    }
    Ok(Some(parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::ulimit;

    #[test]
    fn limits_are_read_or_refused() {
        let read = |word: &str| ulimit(word).map(|limit| (limit.soft, limit.hard));
        assert_eq!(read("nofile=10:20"), Ok((Some(10), Some(20))));
        assert_eq!(read("core=0"), Ok((Some(0), Some(0))));
        for (word, said) in [
            ("nofile", "expected NAME"),
            ("files=1", "no limit `files`"),
            ("nofile=x", "not a number"),
            ("nofile=20:10", "above the hard one"),
            ("core=-1:5", "above"),
        ] {
            assert!(ulimit(word).unwrap_err().contains(said), "{word}");
        }
    }
}
