//! What tokens cost.

mod list;
mod rate;

pub use self::{
    list::{DuplicatePrice, PriceEntry, PriceList, Prices},
    rate::{Price, Rate},
};
