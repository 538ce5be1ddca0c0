//! Who acts, for which tenant, with which permissions. A `&Scope` is the first parameter of every public
//! function that touches data, so that tenancy is a type and not a review comment.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, TenantId, codes};

/// What a scope may do. The order matters: each permission includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// Read views and ask for answers.
    Read,
    /// Append events.
    Write,
    /// Change settings, train, promote, look at operations.
    Admin,
}

impl fmt::Display for Permission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Permission {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "admin" => Ok(Self::Admin),
            _ => {
                let message = format!("`{text}` is not one of read, write, admin");
                Err(Error::new(codes::VALIDATION_ERROR, message).with_field("permission"))
            }
        }
    }
}

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A caller who proved a credential; the name is of the credential, never its secret.
    Caller(String),
    /// A processor, trainer or command of Watershed itself.
    System(&'static str),
}

/// As histories and audits name who acted: the credential, or `system:` and the part.
impl fmt::Display for Actor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caller(name) => formatter.write_str(name),
            Self::System(part) => write!(formatter, "system:{part}"),
        }
    }
}

/// Who acts, for which tenant, with which permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    tenant: TenantId,
    actor: Actor,
    permission: Permission,
}

impl Scope {
    /// The scope of a caller whose credential was proven. Only the edge calls it (`clippy.toml` holds it).
    #[must_use]
    pub fn proven(tenant: TenantId, credential: impl Into<String>, permission: Permission) -> Self {
        Self { tenant, actor: Actor::Caller(credential.into()), permission }
    }

    /// The scope of Watershed's own work (`fold`, `train`, `import`) on behalf of `tenant`.
    #[must_use]
    pub fn system(tenant: TenantId, component: &'static str) -> Self {
        Self { tenant, actor: Actor::System(component), permission: Permission::Admin }
    }

    /// The tenant whose data may be touched, and no other.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Who acts.
    #[must_use]
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// Passes when the scope has `permission`.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` when it does not.
    pub fn require(&self, permission: Permission) -> Result<()> {
        if self.permission >= permission {
            return Ok(());
        }
        Err(Error::new(
            codes::PERMISSION_DENIED,
            format!("this needs the {permission} permission, the credential has {}", self.permission),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_are_told_apart() {
        assert_eq!(Actor::Caller("shop".to_owned()).to_string(), "shop");
        assert_eq!(Actor::System("fold").to_string(), "system:fold");
    }

    #[test]
    fn permissions_include_the_weaker_ones() {
        let tenant = TenantId::new("t").unwrap();
        let writer = Scope { tenant, actor: Actor::System("test"), permission: Permission::Write };
        assert!(writer.require(Permission::Read).is_ok());
        assert!(writer.require(Permission::Write).is_ok());
        let refused = writer.require(Permission::Admin).unwrap_err();
        assert_eq!(refused.code(), codes::PERMISSION_DENIED);
    }
}
