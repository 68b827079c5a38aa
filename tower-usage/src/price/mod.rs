//! What tokens cost.

mod list;
mod priced;
mod rate;

pub use self::{
    list::{DuplicatePrice, PriceEntry, PriceList, Priced, Prices, UnlistedFallback},
    rate::{Price, Rate},
};
