//! RUN --mount: options become typed once their variables are expanded.

use strake_dockerfile::{self as dockerfile, Text, clean_path};
use strake_plan::{CopySource, Mount, MountKind};

use crate::scope::build_arg;
use crate::stage::StageLowering;

impl StageLowering<'_, '_> {
    /// Lowers one mount.
    pub(crate) fn mount(&mut self, mount: &dockerfile::Mount) -> Option<Mount> {
        let kind = self.option(mount, "type")?.unwrap_or_else(|| "bind".to_owned()).to_lowercase();
        let written = self.option(mount, "target")?.unwrap_or_default();
        match kind.as_str() {
            "bind" | "cache" | "tmpfs" => {}
            "secret" => return self.secret(mount, &written),
            "ssh" => return self.ssh(mount, &written),
            other => return self.wrong(mount, "mount-option", format!("unsupported mount type `{other}`")),
        }
        let target = self.target(mount, &written)?;
        let (writable, readonly) = (is_on(mount, "readwrite"), is_on(mount, "readonly"));
        if writable && readonly {
            return self.wrong(mount, "mount-option", "a mount cannot be both readonly and readwrite");
        }
        let (kind, read_only) = match kind.as_str() {
            "bind" => (self.bind(mount)?, !writable),
            "cache" => (self.cache(mount, &written)?, readonly),
            _ => (self.tmpfs(mount)?, readonly),
        };
        Some(Mount { target, kind, read_only })
    }

    /// A secret: a file below /run/secrets or where `target` says, a variable with `env`, both with both.
    fn secret(&mut self, mount: &dockerfile::Mount, written: &str) -> Option<Mount> {
        let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let given = match self.option(mount, "id")? {
            None => self.option(mount, "source")?,
            given => given,
        };
        let id = given.filter(|id| !id.is_empty()).unwrap_or_else(|| name(written));
        if id.is_empty() {
            return self.wrong(mount, "mount-option", "a secret needs an id or a target");
        }
        let env = self.option(mount, "env")?.map(|env| if env.is_empty() { id.clone() } else { env });
        let target = match (written, &env) {
            ("", Some(_)) => String::new(),
            ("", None) => format!("/run/secrets/{}", name(&id)),
            (written, _) => self.target(mount, written)?,
        };
        let (mode, uid, gid) = self.access(mount, 0o400)?;
        Some(Mount { target, kind: MountKind::Secret { id, env, required: is_on(mount, "required"), mode, uid, gid }, read_only: true })
    }

    /// An agent's socket; without a target it has the name that Docker gives it.
    fn ssh(&mut self, mount: &dockerfile::Mount, written: &str) -> Option<Mount> {
        if mount.option("source").is_some() {
            return self.wrong(mount, "mount-option", "a mount of type ssh has no source");
        }
        let id = self.option(mount, "id")?.filter(|id| !id.is_empty()).unwrap_or_else(|| "default".to_owned());
        let target = if written.is_empty() { format!("/run/buildkit/ssh_agent.{}", self.agents) } else { self.target(mount, written)? };
        self.agents += 1;
        let (mode, uid, gid) = self.access(mount, 0o600)?;
        Some(Mount { target, kind: MountKind::Ssh { id, required: is_on(mount, "required"), mode, uid, gid }, read_only: true })
    }

    fn access(&mut self, mount: &dockerfile::Mount, mode: u32) -> Option<(u32, u32, u32)> {
        Some((self.number(mount, "mode", 8, mode)?, self.number(mount, "uid", 10, 0)?, self.number(mount, "gid", 10, 0)?))
    }

    /// The absolute path of a target.
    fn target(&mut self, mount: &dockerfile::Mount, written: &str) -> Option<String> {
        let target = clean_path(&if written.starts_with('/') { written.to_owned() } else { format!("{}/{written}", self.state.workdir()) });
        if target == "/" {
            return self.wrong(mount, "mount-option", format!("invalid mount target `{written}`: the root cannot be mounted over"));
        }
        Some(target)
    }

    fn wrong<T>(&mut self, mount: &dockerfile::Mount, code: &'static str, message: impl Into<String>) -> Option<T> {
        self.error(code, message, mount.span);
        None
    }

    /// An option's value, expanded; the outer `None` is an error that has been reported.
    fn option(&mut self, mount: &dockerfile::Mount, name: &str) -> Option<Option<String>> {
        match mount.option(name) {
            None => Some(None),
            Some(value) => self.expand(&Text::new(value.to_owned(), mount.span)).map(Some),
        }
    }

    fn origin(&mut self, mount: &dockerfile::Mount) -> Option<Option<CopySource>> {
        match mount.option("from").filter(|from| !from.is_empty()) {
            None => Some(None),
            Some(from) => self.source_of(from, mount.span).map(Some),
        }
    }

    fn source(&mut self, mount: &dockerfile::Mount) -> Option<String> {
        let source = self.option(mount, "source")?.unwrap_or_default();
        let cleaned = clean_path(&format!("/{source}"));
        Some(if cleaned == "/" { ".".to_owned() } else { cleaned[1..].to_owned() })
    }

    fn bind(&mut self, mount: &dockerfile::Mount) -> Option<MountKind> {
        let from = match self.origin(mount)? {
            Some(from) => from,
            None => self.main_context(),
        };
        Some(MountKind::Bind { from, source: self.source(mount)? })
    }

    fn cache(&mut self, mount: &dockerfile::Mount, target: &str) -> Option<MountKind> {
        let own = self.option(mount, "id")?.filter(|id| !id.is_empty()).unwrap_or_else(|| clean_path(target));
        // Builds that should not share their caches say so.
        let id = match build_arg(self.lowering.request, "BUILDKIT_CACHE_MOUNT_NS").filter(|name| !name.is_empty()) {
            Some(name) => format!("{name}/{own}"),
            None => own,
        };
        let sharing = self.option(mount, "sharing")?.map_or("shared".to_owned(), |sharing| sharing.to_lowercase());
        if !matches!(sharing.as_str(), "shared" | "private" | "locked") {
            return self.wrong(mount, "mount-option", format!("unsupported sharing value `{sharing}`; expected shared, private or locked"));
        }
        let mode = self.number(mount, "mode", 8, 0o755)?;
        let (uid, gid) = (self.number(mount, "uid", 10, 0)?, self.number(mount, "gid", 10, 0)?);
        let from = self.origin(mount)?;
        let source = self.source(mount)?;
        Some(MountKind::Cache { id, sharing, mode, uid, gid, from, source })
    }

    fn number(&mut self, mount: &dockerfile::Mount, name: &str, radix: u32, default: u32) -> Option<u32> {
        let Some(text) = self.option(mount, name)? else { return Some(default) };
        match u32::from_str_radix(&text, radix) {
            Ok(number) if radix == 10 || number <= 0o7777 => Some(number),
            _ => self.wrong(
                mount,
                "mount-option",
                format!("invalid value `{text}` for {name}; expected {} number", if radix == 8 { "an octal" } else { "a whole" }),
            ),
        }
    }

    fn tmpfs(&mut self, mount: &dockerfile::Mount) -> Option<MountKind> {
        let Some(text) = self.option(mount, "size")? else { return Some(MountKind::Tmpfs { size_bytes: 0 }) };
        match bytes(&text) {
            Some(size_bytes) => Some(MountKind::Tmpfs { size_bytes }),
            None => self.wrong(mount, "mount-option", format!("invalid value `{text}` for size; expected bytes with an optional suffix such as k, m or g")),
        }
    }
}

/// Whether an option that may stand alone is given and not `false`.
fn is_on(mount: &dockerfile::Mount, name: &str) -> bool {
    mount.option(name).is_some_and(|value| !value.eq_ignore_ascii_case("false"))
}

/// `64m`, `1.5GiB`, `100`: powers of 1024, as Docker reads sizes of memory.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a size is far below 2^53, and negative ones are refused"
)]
pub fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_lowercase();
    let digits = lower.len() - lower.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let suffix = lower[digits..].trim();
    let unit = suffix.trim_end_matches('b').trim_end_matches('i');
    let power = if suffix.is_empty() || suffix == "b" { 0 } else { ["k", "m", "g", "t", "p"].iter().position(|known| *known == unit)? + 1 };
    let number = lower[..digits].parse::<f64>().ok()?;
    let size = number * (1_u64 << (10 * power)) as f64;
    (size < 9.0e15).then_some(size as u64)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, expected) in [
            ("100", Some(100)),
            ("64m", Some(64 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("2 KB", Some(2048)),
            ("5b", Some(5)),
            ("x", None),
            ("1z", None),
            ("", None),
            ("-1", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
