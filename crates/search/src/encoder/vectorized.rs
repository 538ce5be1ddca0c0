//! Functions that are compiled once for each instruction set and chosen at run time, because the program is built for
//! plain x86-64. Their bodies are ordinary loops; what they call must be `#[inline(always)]`.

/// Declares such functions. A closure would not do: it need not be inlined, and would stay plain code.
macro_rules! vectorized {
    ($($(#[$meta:meta])* $visibility:vis fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $body:block)*) => { $(
        $(#[$meta])*
        $visibility fn $name($($argument: $kind),*) {
            struct Body<Arguments>(Arguments);
            impl pulp::WithSimd for Body<($($kind,)*)> {
                type Output = ();
                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _: S) {
                    let Body(($($argument,)*)) = self;
                    $body
                }
            }
            pulp::Arch::new().dispatch(Body(($($argument,)*)))
        }
    )* };
}
pub(super) use vectorized;
