//! Whose record a person decides about: flags of several commands.

/// The customer, of a SaaS product.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Whose {
    /// SaaS products: whose record it is, as a 12-digit account id
    #[arg(long, value_name = "ACCOUNT-ID")]
    pub customer: Option<String>,
    /// SaaS products: under which licence, where the customer has several
    #[arg(long, value_name = "ARN", requires = "customer")]
    pub license: Option<String>,
}
