//! What stores over a network have in common. They decide at the server, in one step, by what it keeps; what follows from
//! plans and calendars the client works out beforehand and sends along.

mod known;
mod question;
mod terms_json;

pub(crate) use self::{
    known::Known,
    question::{Calendar, Level, Question},
    terms_json::{parse_terms, terms_json},
};
