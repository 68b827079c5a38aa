//! What tokens cost.

#[cfg(feature = "import")]
mod decimal;
mod entry;
#[cfg(feature = "import")]
mod import;
mod list;
#[cfg(feature = "import")]
mod object;
mod priced;
mod rate;

#[cfg(feature = "import")]
pub use self::import::{Import, ImportError, Unapplied};
#[cfg(feature = "sqlite")]
pub(crate) use self::priced::with_front;
pub use self::{
    entry::PriceEntry,
    list::{DuplicatePrice, PriceList, Priced, Prices, UnlistedFallback},
    rate::{Price, Rate},
};
