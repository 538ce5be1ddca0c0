//! The keys: `PREFIX:TENANT:KIND:NAME`. Neither prefix nor tenant has a colon, so that no name reaches into another
//! tenant.
//!
//! Values, counters and leases spread over the slots of a Cluster one by one, so that one large tenant uses all
//! nodes. Limits are charged together, so the tenant of their keys is a hash tag, which puts them into one slot.

use kernel::Scope;

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Value,
    Counter,
    Lease,
    Limit,
}

/// The key of `name`.
pub(crate) fn key(prefix: &str, scope: &Scope, kind: Kind, name: &str) -> String {
    let tenant = scope.tenant();
    match kind {
        Kind::Value => format!("{prefix}:{tenant}:v:{name}"),
        Kind::Counter => format!("{prefix}:{tenant}:c:{name}"),
        Kind::Lease => format!("{prefix}:{tenant}:l:{name}"),
        Kind::Limit => format!("{prefix}:{{{tenant}}}:r:{name}"),
    }
}

#[cfg(test)]
mod tests {
    use kernel::TenantId;

    use super::*;

    #[test]
    fn the_tenant_comes_first() {
        let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
        let check = |kind, expected: &str| assert_eq!(key("watershed", &scope, kind, "a:b"), expected);
        check(Kind::Value, "watershed:shop:v:a:b");
        check(Kind::Counter, "watershed:shop:c:a:b");
        check(Kind::Lease, "watershed:shop:l:a:b");
        check(Kind::Limit, "watershed:{shop}:r:a:b");
    }
}
