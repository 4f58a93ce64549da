//! What operators ask: orders to single nodes.

use super::call::{Called, call};
use super::client::{Client, unexpected};
use super::error::ClientError;
use super::join::{Boxed, join_all};
use crate::api::{HintOrder, HintsOrdered, Reply, Request};
use crate::types::NodeId;

impl Client {
    /// Orders what is to be done about the hints that these nodes keep, all at once; they answer before it is done. The
    /// results are in the order of `nodes`; [`ClientError::Unreachable`] for one that the ring does not name, without a try.
    pub async fn order_hints(&self, nodes: &[NodeId], order: HintOrder) -> Vec<Result<HintsOrdered, ClientError>> {
        let ask = |node: &NodeId| -> Boxed<'_, _> { Box::pin(self.order_hints_of(*node, order)) };
        join_all(nodes.iter().map(ask).collect()).await
    }

    async fn order_hints_of(&self, node: NodeId, order: HintOrder) -> Result<HintsOrdered, ClientError> {
        let routing = self.hub.routing.load_full();
        let Some(target) = routing.member(node) else {
            return Err(ClientError::Unreachable { tried: vec![format!("{node}: not in the ring")] });
        };
        let Called { reply, from, .. } = call(&self.hub, routing, vec![target], Request::Hints(order)).await?;
        let Reply::Hints(ordered) = reply else { return Err(unexpected(from)) };
        Ok(ordered)
    }
}
