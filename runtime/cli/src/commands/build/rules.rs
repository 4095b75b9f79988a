//! `--allow`, `--ulimit` and `--cgroup-parent`: what RUNs may do and use.

use rustix::process::{Resource, getrlimit};
use strake_plan::{Resources, Ulimit};
use strake_stages::{Rules, memory_bytes};

use crate::args::Build;
use crate::failure::Failure;

/// The period over which processor time is counted, in microseconds, when nobody says another one.
const PERIOD_US: u64 = 100_000;

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
    rules.resources = resources(&args.resources).map_err(|wrong| Failure::text(wrong).with_code(2))?;
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

/// `NAME=VALUE`, as Docker names them; the last of a name is meant.
fn resources(words: &[String]) -> Result<Resources, String> {
    let (mut found, mut quota, mut period, mut swap) = (Resources::default(), None, None, None);
    for word in words {
        let wrong = |why: &str| format!("--resource {word}: {why}");
        let (name, value) = word.split_once('=').ok_or_else(|| wrong("expected NAME=VALUE"))?;
        let bytes = || memory_bytes(value).filter(|bytes| *bytes > 0).ok_or_else(|| wrong("expected bytes with an optional suffix such as k, m or g"));
        let number = || value.parse::<u64>().ok().filter(|number| *number > 0).ok_or_else(|| wrong("expected a whole number above 0"));
        match name {
            "memory" => found.memory_bytes = Some(bytes()?),
            "memory-swap" => swap = Some((bytes()?, word)),
            "cpu-quota" => quota = Some(number()?),
            "cpu-period" => period = Some(number()?),
            // 1,024 shares are one processor's.
            "cpu-shares" => found.cpu_weight_milli = Some(number()?.saturating_mul(1000).div_ceil(1024)),
            "cpuset-cpus" | "cpuset-mems" => {
                return Err(wrong("RUNs are not bound to processors: limit their time with cpu-quota, or bind strake itself with taskset"));
            }
            _ => return Err(wrong("expected memory, cpu-quota, cpu-period or cpu-shares")),
        }
    }
    if let Some((total, word)) = swap
        && found.memory_bytes != Some(total)
    {
        return Err(format!("--resource {word}: a RUN with a limit gets no swap on top of it: leave memory-swap out, or give it the value of memory"));
    }
    match (quota, period) {
        (Some(quota), period) => found.cpu_milli = Some(quota.saturating_mul(1000).div_ceil(period.unwrap_or(PERIOD_US))),
        (None, Some(_)) => return Err("--resource cpu-period: without cpu-quota it limits nothing".to_owned()),
        (None, None) => {}
    }
    Ok(found)
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
    use super::{Resources, resources, ulimit};

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

    #[test]
    fn resources_are_read_or_refused() {
        let read = |words: &[&str]| resources(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        let all = Resources { memory_bytes: Some(512 << 20), cpu_milli: Some(500), cpu_weight_milli: Some(500) };
        assert_eq!(read(&["memory=1g", "memory=512m", "cpu-quota=25000", "cpu-period=50000", "cpu-shares=512", "memory-swap=512m"]), Ok(all));
        assert_eq!(read(&["cpu-quota=150000"]).expect("read").cpu_milli, Some(1500));
        assert_eq!(read(&[]), Ok(Resources::default()));
        for (word, said) in [
            ("memory", "expected NAME=VALUE"),
            ("memory=0", "expected bytes"),
            ("cpu-quota=x", "whole number"),
            ("memory-swap=1g", "no swap on top"),
            ("cpu-period=1000", "limits nothing"),
            ("cpuset-cpus=0", "not bound to processors"),
            ("gpu=1", "expected memory, cpu-quota"),
        ] {
            assert!(read(&[word]).expect_err(word).contains(said), "{word}");
        }
    }
}
