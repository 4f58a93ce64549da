//! What operators ask: orders to single nodes.

use super::call::{Called, call};
use super::client::{Client, unexpected};
use super::error::ClientError;
use super::join::{Boxed, join_all};
use crate::api::{
    Explain, ExplainReply, HintOrder, HintsOrdered, RepairOrder, RepairOrdered, Reply, Request, TombstoneOrder,
    TombstoneStats,
};
use crate::types::NodeId;

impl Client {
    /// Asks the node that a put of this key would go to first, as far as it can be reached, what a get and a put of it would
    /// come to now: at that node. Where it could not, a put goes on to the next.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn explain(&self, explain: Explain) -> Result<ExplainReply, ClientError> {
        let (bucket, key) = (explain.bucket.clone(), explain.key.clone());
        let Called { reply, from, .. } = self.call_key(&bucket, &key, Request::Explain(explain)).await?;
        let Reply::Explain(reply) = reply else { return Err(unexpected(from)) };
        Ok(*reply)
    }

    /// Orders what is to be done about the hints that these nodes keep, all at once; they answer before it is done. The
    /// results are in the order of `nodes`; [`ClientError::Unreachable`] for one that the ring does not name, without a try.
    pub async fn order_hints(&self, nodes: &[NodeId], order: HintOrder) -> Vec<Result<HintsOrdered, ClientError>> {
        let ask = |node: &NodeId| -> Boxed<'_, _> { Box::pin(self.order_hints_of(*node, order)) };
        join_all(nodes.iter().map(ask).collect()).await
    }

    async fn order_hints_of(&self, node: NodeId, order: HintOrder) -> Result<HintsOrdered, ClientError> {
        let Called { reply, from, .. } = self.call_node(node, Request::Hints(order)).await?;
        let Reply::Hints(ordered) = reply else { return Err(unexpected(from)) };
        Ok(ordered)
    }

    /// Orders what is to be done about the comparison of these nodes' replicas with others', all at once; they answer before
    /// it is done. Results as for [`Client::order_hints`].
    pub async fn order_repair(&self, nodes: &[NodeId], order: RepairOrder) -> Vec<Result<RepairOrdered, ClientError>> {
        let ask = |node: &NodeId| -> Boxed<'_, _> { Box::pin(self.order_repair_of(*node, order)) };
        join_all(nodes.iter().map(ask).collect()).await
    }

    async fn order_repair_of(&self, node: NodeId, order: RepairOrder) -> Result<RepairOrdered, ClientError> {
        let Called { reply, from, .. } = self.call_node(node, Request::Repair(order)).await?;
        let Reply::Repair(ordered) = reply else { return Err(unexpected(from)) };
        Ok(ordered)
    }

    /// Asks these nodes, all at once, to count the tombstones that they hold. Results as for [`Client::order_hints`].
    pub async fn tombstones(&self, nodes: &[NodeId]) -> Vec<Result<TombstoneStats, ClientError>> {
        let ask = |node: &NodeId| -> Boxed<'_, _> { Box::pin(self.tombstones_of(*node)) };
        join_all(nodes.iter().map(ask).collect()).await
    }

    async fn tombstones_of(&self, node: NodeId) -> Result<TombstoneStats, ClientError> {
        let Called { reply, from, .. } = self.call_node(node, Request::Tombstones(TombstoneOrder::Stats)).await?;
        let Reply::Tombstones(stats) = reply else { return Err(unexpected(from)) };
        Ok(*stats)
    }

    async fn call_node(&self, node: NodeId, request: Request) -> Result<Called, ClientError> {
        let routing = self.hub.routing.load_full();
        let Some(target) = routing.member(node) else {
            return Err(ClientError::Unreachable { tried: vec![format!("{node}: not in the ring")] });
        };
        call(&self.hub, routing, vec![target], request).await
    }
}
