//! The ring: which nodes hold a key, as pure functions of one replicated value, the [`Layout`].
//!
//! A key's [token](token_of) falls into one of Q equal partitions, fixed at the cluster's birth (Dynamo, SOSP'07,
//! section 6.2, strategy 3: equal partitions, Q/S of them a node). The layout names the owner of each partition;
//! [`claim`] chooses owners so that shares follow weights (section 4.2, heterogeneity) and neighbours differ. From the
//! layout follows each partition's [`PreferenceList`]: the first N distinct nodes clockwise, spread over zones, and
//! behind them the stand-ins of a sloppy quorum (sections 4.3 and 4.6). [`RingView`] is the layout with every list
//! worked out, shared by whoever routes.
//!
//! Everything here is deterministic: two nodes with the same layout agree on every list, and two nodes that see the
//! same members at birth agree on the layout, byte for byte.

mod arrangement;
pub mod claim;
pub mod layout;
pub mod member;
pub mod preference;
pub mod token;
pub mod view;

pub use claim::{claim, most_extra_moves};
pub use layout::{BucketConfig, Conflict, Layout, LayoutError};
pub use member::{Member, Weight, WeightError};
pub use preference::{Entry, PreferenceList, Role, Slot, coordinators_of};
pub use token::{Partitions, token_of};
pub use view::RingView;
