//! Platforms: `os/architecture[/variant]`, normalised as containerd does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Operating system, architecture and variant of an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`, …
    pub os: String,
    /// Go's name of the architecture: `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7`, `v8`, …; empty where the architecture has none or its default one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// Why text is not a platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform: expected os/architecture or os/architecture/variant, such as linux/amd64")]
pub struct PlatformError(String);

impl Platform {
    /// The platform this program was compiled for.
    pub fn host() -> Self {
        let architecture = normal_architecture(std::env::consts::ARCH);
        Platform { os: std::env::consts::OS.to_owned(), architecture: architecture.to_owned(), variant: String::new() }.normalised()
    }

    /// The same platform as strake writes it: aliases and variants that go without saying resolved.
    pub fn normalised(&self) -> Self {
        let architecture = normal_architecture(&self.architecture);
        let variant = normal_variant(&self.architecture, architecture, &self.variant);
        Platform { os: self.os.clone(), architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// What code of other platforms this one can be given, best first: itself, older variants, then the 32-bit relative (containerd `platforms.Only`).
    pub fn accepts(&self) -> Vec<Platform> {
        let own = self.normalised();
        let with = |architecture: &str, variant: String| Platform { os: own.os.clone(), architecture: architecture.to_owned(), variant };
        let arm = |newest: u32| (5..=newest).rev().map(|version| with("arm", format!("v{version}"))).collect::<Vec<_>>();
        let number = own.variant.trim_start_matches('v').parse::<u32>().ok();
        let mut accepted = vec![own.clone()];
        match own.architecture.as_str() {
            "amd64" => {
                accepted.extend((2..number.unwrap_or(1).min(9)).rev().map(|version| with("amd64", format!("v{version}"))));
                accepted.push(with("amd64", String::new()));
                accepted.push(with("386", String::new()));
            }
            "arm64" => {
                accepted.push(with("arm64", String::new()));
                accepted.extend(arm(8));
            }
            "arm" => accepted.extend(arm(number.unwrap_or(7).min(8))),
            _ => {}
        }
        let mut once: Vec<Platform> = Vec::new();
        for platform in accepted {
            if !once.contains(&platform) {
                once.push(platform);
            }
        }
        once
    }

    /// Which of several images serves this platform best: the place of the one, nothing when none fits.
    pub fn choose<'p>(&self, offered: impl IntoIterator<Item = Option<&'p Platform>>) -> Option<usize> {
        let offered: Vec<Option<Platform>> = offered.into_iter().map(|platform| platform.map(Platform::normalised)).collect();
        self.accepts().iter().find_map(|wanted| offered.iter().position(|platform| platform.as_ref() == Some(wanted)))
    }

    /// The directory of this platform's files in an output of several: `linux_arm_v7`.
    pub fn folder(&self) -> String {
        self.to_string().replace('/', "_")
    }
}

/// What a descriptor of an index says of its platform; nothing when it says nothing, or `unknown`, as attestations do.
pub fn platform_of(descriptor: &oci_spec::image::Descriptor) -> Option<Platform> {
    let platform = descriptor.platform().as_ref()?;
    let (os, architecture) = (platform.os().to_string(), platform.architecture().to_string());
    if os == "unknown" || os.is_empty() {
        return None;
    }
    let variant = platform.variant().clone().unwrap_or_default();
    Some(Platform { os, architecture, variant }.normalised())
}

/// Go's name of an architecture, from whatever people and compilers call it.
fn normal_architecture(name: &str) -> &str {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i486" | "i586" | "i686" | "x86" => "386",
        "armhf" | "armel" => "arm",
        "powerpc64le" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// The variant without what it says by itself (containerd `platforms`, "normalizeArch").
fn normal_variant<'t>(written: &str, architecture: &str, variant: &'t str) -> &'t str {
    match (written, architecture, variant) {
        ("armel", ..) => "v6",
        (_, "arm64", "v8" | "8" | "v8.0") | (_, "amd64", "v1") => "",
        (_, "arm64", "9" | "v9.0") => "v9",
        (_, "arm", "" | "7") => "v7",
        (_, "arm", "5") => "v5",
        (_, "arm", "6") => "v6",
        (_, "arm", "8") => "v8",
        (_, _, variant) => variant,
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let lower = text.to_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        let word = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !parts.iter().all(word) {
            return Err(PlatformError(text.to_owned()));
        }
        let (os, architecture, variant) = match parts[..] {
            [architecture] if normal_architecture(architecture) != architecture => ("linux", architecture, ""),
            [architecture @ ("amd64" | "arm64" | "arm" | "386" | "riscv64" | "ppc64le" | "s390x" | "loong64" | "mips64le")] => ("linux", architecture, ""),
            [os, architecture] => (os, architecture, ""),
            [os, architecture, variant] => (os, architecture, variant),
            _ => return Err(PlatformError(text.to_owned())),
        };
        let os = if os == "macos" { "darwin" } else { os };
        Ok(Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }.normalised())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

#[cfg(test)]
mod tests {
    use super::Platform;

    #[test]
    fn normalises_aliases_and_default_variants() {
        let shown = |text: &str| text.parse::<Platform>().map(|platform| platform.to_string()).ok();
        assert_eq!(shown("x86_64").as_deref(), Some("linux/amd64"));
        assert_eq!(shown("linux/arm64/v8").as_deref(), Some("linux/arm64"));
        assert_eq!(shown("linux/arm").as_deref(), Some("linux/arm/v7"));
        assert_eq!(shown("linux/armhf").as_deref(), Some("linux/arm/v7"));
        assert_eq!(shown("linux/armel").as_deref(), Some("linux/arm/v6"));
        assert_eq!(shown("linux/amd64/v1").as_deref(), Some("linux/amd64"));
        assert_eq!(shown("linux/amd64/v3").as_deref(), Some("linux/amd64/v3"));
        assert_eq!(shown("linux//x"), None);
        assert_eq!(shown(""), None);
    }

    #[test]
    fn the_best_of_several_is_chosen_and_never_a_foreign_one() {
        let chosen = |wanted: &str, offered: &[&str]| {
            let offered: Vec<Option<Platform>> = offered.iter().map(|text| text.parse().ok()).collect();
            wanted.parse::<Platform>().expect("a platform").choose(offered.iter().map(Option::as_ref))
        };
        let all = ["linux/arm/v6", "linux/arm64/v8", "linux/amd64", "linux/arm/v7", ""];
        assert_eq!(chosen("linux/amd64", &all), Some(2));
        assert_eq!(chosen("linux/amd64/v3", &all), Some(2), "older code runs");
        assert_eq!(chosen("linux/arm64", &all), Some(1));
        assert_eq!(chosen("linux/arm", &all), Some(3));
        assert_eq!(chosen("linux/arm/v6", &all), Some(0));
        assert_eq!(chosen("linux/arm/v5", &all), None, "newer code does not");
        assert_eq!(chosen("linux/arm64", &["linux/amd64", "linux/arm/v7"]), Some(1));
        assert_eq!(chosen("linux/s390x", &all), None);
        assert_eq!(chosen("windows/amd64", &all), None);
        assert_eq!(chosen("linux/amd64", &["linux/amd64/v2"]), None);
    }
}
