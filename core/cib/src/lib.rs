//! The model of a cluster's configuration and status: what a policy engine plans from, and what
//! operators write.
//!
//! [`read`] makes a [`Cib`] of Pacemaker's XML, [`write`](write()) makes XML of it again. Both
//! follow from one declaration per element, and **nothing is lost between them**: values keep their
//! spelling ([`Attr`]), and what the model does not know (elements, attributes, comments) is named in
//! the problems and kept in [`Extra`], at its place.
//!
//! Everything that was read knows [where](text::At) it stood, so that reports can point at it.
//!
//! # The parts
//!
//! | module | is |
//! |---|---|
//! | [`cib`] | the whole, and its sections |
//! | [`nodes`], [`resources`], [`operations`], [`constraints`], [`fencing`], [`alerts`], [`access`] | what people configure |
//! | [`sets`], [`rules`] | named values, and when they count |
//! | [`status`] | what the cluster knows: node states, transient attributes, tickets, histories |
//! | [`value`] | scores and their arithmetic, lengths of time, dates, roles and other words |
//! | [`index`] | finding by id, following `id-ref` and templates |
//! | [`validate`] | what is wrong across elements: ids used twice, names that nothing has |
//! | [`agents`] | what agents say of themselves |
//! | [`check`] | what is likely to be wrong with a configuration though it can be read |
//! | [`native`], [`heartbeat`] | other notations |
//! | [`problem`] | what is wrong, where, and what would be right |
//!
//! # What the model leaves to its users
//!
//! * **Rules are read, not evaluated**: that needs a node and a moment.
//! * **References and templates are followed on request** ([`index::Index`]), so that writing gives
//!   back what was read.
//! * **Defaults are the reader's**: an absent attribute is absent. The documentation of each field
//!   says what absence means.
//! * **Old notations stay what they are** (`<master>`, `score` of an order, `Master` for a role), but
//!   are understood: by [`value::Role`], [`constraints::Order::strength`],
//!   [`resources::Resource::is_promotable`] and others.
//!
//! ```
//! let text = r#"<cib epoch="1" num_updates="0" admin_epoch="0" validate-with="pacemaker-3.9">
//!   <configuration>
//!     <crm_config/>
//!     <nodes/>
//!     <resources>
//!       <primitive id="web" class="systemd" type="nginx"/>
//!     </resources>
//!     <constraints/>
//!   </configuration>
//!   <status/>
//! </cib>
//! "#;
//! let reading = mainstay_cib::read(text).unwrap();
//! assert!(reading.problems.is_empty());
//! assert_eq!(&**reading.document.cib.resources()[0].id(), "web");
//! assert_eq!(mainstay_cib::write(&reading.document), text);
//! ```

#![forbid(unsafe_code)]

pub mod access;
pub mod agents;
pub mod alerts;
pub mod check;
pub mod cib;
pub mod constraints;
mod document;
pub mod fencing;
pub mod heartbeat;
pub mod index;
pub mod native;
pub mod nodes;
pub mod operations;
pub mod problem;
pub mod resources;
pub mod rules;
pub mod sets;
pub mod status;
pub mod text;
pub mod validate;
pub mod value;
mod xml;

pub use cib::Cib;
pub use document::{Document, Reading, read, write};
pub use problem::{Level, Problem};
pub use xml::{Attr, Extra, Verbatim};
