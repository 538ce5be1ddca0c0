//! The suite of every port: one function per rule, which panics where an engine breaks it.
//!
//! An engine's tests name an expression that makes an opener, and get one test per rule:
//!
//! ```ignore
//! mod event_log {
//!     store::event_log_conformance!(super::fresh_folder_opener());
//! }
//! ```
//!
//! The opener is called once per rule or more; a later call, after what the earlier one gave was dropped, must open
//! the same data again. What an engine does not declare as a capability is not asked of it. To add a rule: a
//! function in the port's file and its name in the list at the top of that file.

#![expect(clippy::unwrap_used, reason = "a suite is test code that other crates call")]
#![expect(clippy::needless_pass_by_value, reason = "short calls read better in cases")]

pub mod blobs;
pub mod cache;
pub mod columns;
pub mod event_log;
pub mod limiter;
pub mod records;
pub mod vectors;

use kernel::{ErrorCode, Result, Scope, TenantId};

/// Makes one test per rule of a port.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ($port:ident, $open:expr, [$($rule:ident),* $(,)?]) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                $crate::conformance::$port::$rule($open).await;
            }
        )*
    };
}

/// The scope of a tenant by this name.
fn scope(tenant: &str) -> Scope {
    Scope::system(TenantId::new(tenant).expect("a lawful name"), "conformance")
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T>, code: ErrorCode) {
    match result {
        Ok(value) => panic!("`{}` was expected, not {value:?}", code.name),
        Err(error) => assert_eq!(error.code(), code, "{error:?}"),
    }
}

/// A small generator, so that random cases are the same everywhere (Steele et al. 2014, SplitMix64).
#[derive(Debug)]
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % bound
    }
}
