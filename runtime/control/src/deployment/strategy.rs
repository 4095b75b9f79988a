//! How far a rollout may stray from the wanted number of pods.

use strake_kinds::IntOrString;
use strake_kinds::apps::DeploymentStrategy;

/// The strategy of a Deployment, its percentages resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    Rolling { surge: i32, unavailable: i32 },
    Recreate,
}

impl Strategy {
    pub(crate) fn read(strategy: Option<&DeploymentStrategy>, replicas: i32) -> Self {
        if strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("Recreate")) {
            return Self::Recreate;
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let surge = resolve(rolling.and_then(|rolling| rolling.max_surge.as_ref()), replicas, true);
        let unavailable = resolve(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), replicas, false).min(replicas);
        // With neither, nothing could ever move: percentages of small numbers round down to this.
        if surge == 0 && unavailable == 0 { Self::Rolling { surge, unavailable: 1.min(replicas) } } else { Self::Rolling { surge, unavailable } }
    }

    pub(crate) fn surge(self) -> i32 {
        match self {
            Self::Rolling { surge, .. } => surge,
            Self::Recreate => 0,
        }
    }

    pub(crate) fn unavailable(self) -> i32 {
        match self {
            Self::Rolling { unavailable, .. } => unavailable,
            Self::Recreate => 0,
        }
    }
}

/// A number, or a percentage of `total`, by default a quarter.
fn resolve(value: Option<&IntOrString>, total: i32, round_up: bool) -> i32 {
    let percent = match value {
        Some(IntOrString::Int(number)) => return (*number).max(0),
        Some(IntOrString::String(text)) => match text.strip_suffix('%').map(str::parse::<i64>) {
            Some(Ok(percent)) => percent.max(0),
            _ => return text.parse().unwrap_or(0),
        },
        None => 25,
    };
    let hundredths = percent.saturating_mul(i64::from(total));
    let whole = if round_up { hundredths.saturating_add(99) / 100 } else { hundredths / 100 };
    i32::try_from(whole).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use strake_kinds::apps::RollingUpdateDeployment;

    fn strategy(surge: &str, unavailable: &str, replicas: i32) -> Strategy {
        let value = |text: &str| Some(text.parse().map_or_else(|_| IntOrString::String(text.to_owned()), IntOrString::Int));
        let rolling = RollingUpdateDeployment { max_surge: value(surge), max_unavailable: value(unavailable) };
        Strategy::read(Some(&DeploymentStrategy { type_: Some("RollingUpdate".to_owned()), rolling_update: Some(rolling) }), replicas)
    }

    #[test]
    fn surge_rounds_up_and_unavailable_rounds_down() {
        for (surge, unavailable, replicas, expected) in [
            ("25%", "25%", 3, (1, 0)),
            ("25%", "25%", 10, (3, 2)),
            ("1", "0", 3, (1, 0)),
            ("0", "25%", 3, (0, 1)),
            ("0", "0", 3, (0, 1)),
            ("100%", "100%", 4, (4, 4)),
            ("0", "7", 4, (0, 4)),
        ] {
            let expected = Strategy::Rolling { surge: expected.0, unavailable: expected.1 };
            assert_eq!(strategy(surge, unavailable, replicas), expected, "{surge} {unavailable} {replicas}");
        }
        assert_eq!(Strategy::read(None, 4), Strategy::Rolling { surge: 1, unavailable: 1 });
    }
}
