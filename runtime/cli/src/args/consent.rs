//! What somebody has to agree to.

use clap::Args;

/// What an apply does with agreement only.
#[derive(Args, Debug, Clone, Default)]
pub struct Consent {
    /// Take over objects that belong to another set or tool (a Helm release, an application of Argo CD)
    #[arg(long)]
    pub adopt: bool,
    /// Delete this one when it has left the directory, although it holds data or other objects
    #[arg(long, value_name = "KIND/NAME")]
    pub confirm_delete: Vec<String>,
}

/// What a plan takes as agreed; applying the plan then takes it so too.
#[derive(Args, Debug, Clone, Default)]
pub struct PlanConsent {
    #[command(flatten)]
    pub consent: Consent,
    /// Take over fields that others own
    #[arg(long)]
    pub force_conflicts: bool,
    /// Allow deleting most of the set
    #[arg(long)]
    pub allow_mass_delete: bool,
}
