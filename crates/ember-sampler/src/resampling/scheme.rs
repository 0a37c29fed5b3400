//! The registry of schemes: a line for each file.

use serde::{Deserialize, Serialize};

/// Every scheme, handed to another macro.
macro_rules! registry {
    ($with:ident) => {
        $with! {
            /// One uniform number for all slots: the least noise.
            Systematic => systematic,
            /// One uniform number per slot.
            Stratified => stratified,
            /// Independent draws: the most noise.
            Multinomial => multinomial,
            /// Whole parts for certain, the rest drawn independently.
            Residual => residual,
        }
    };
}
pub(super) use registry;

macro_rules! define {
    ($($(#[$doc:meta])* $Scheme:ident => $file:ident),* $(,)?) => {
        /// How ancestors are drawn.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Scheme { $($(#[$doc])* $Scheme),* }

        impl Scheme {
            /// Every scheme.
            pub const ALL: &[Scheme] = &[$(Scheme::$Scheme),*];

            /// The scheme's name in a config.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$Scheme => stringify!($file)),* }
            }
        }
    };
}

registry!(define);
