//! Layout selection.
//!
//! Nodes with only one possible layout are fixed first. Then the edges of the graph are visited by decreasing size.
//! Each edge propagates the layout of its fixed end to the other end, and to all undecided nodes that larger edges
//! connect to it. Bytes are therefore permuted on the smallest edges between operators with different layouts. Finally,
//! each node with a choice takes the layout of a neighbour if that moves fewer bytes, for example over one large edge
//! in place of many small ones.

use qcc_ir::ops::Op;
use qcc_ir::target::Target;
use qcc_ir::{Graph, Layout, NodeId, Shape, ValueId};
use rustc_hash::FxHashMap;
use smallvec::{SmallVec, smallvec};

use super::{ImageOrder, Interface, View, variable};

/// The state of each node and the layout of each graph output.
pub(super) struct Plan {
    pub(super) states: FxHashMap<NodeId, Layout>,
    pub(super) outputs: Vec<Layout>,
}

/// A node or a graph output for which a layout is chosen.
#[derive(Clone, Copy)]
enum Site {
    Node(NodeId),
    Output(usize),
}

/// An edge from a value to the operand of a site.
#[derive(Clone, Copy)]
struct Edge {
    from: usize,
    port: u8,
    to: usize,
    operand: usize,
}

struct Solver<'g> {
    g: &'g Graph,
    target: &'g Target,
    interface: Interface,
    sites: Vec<Site>,
    states: Vec<Option<Layout>>,
    /// Edges between sites that were both undecided when the edge was visited.
    joined: Vec<Vec<Edge>>,
    /// The edges into each site and out of it.
    read: Vec<Vec<Edge>>,
    users: Vec<Vec<Edge>>,
    /// For each result of each site.
    wanted: Vec<SmallVec<[Wanted; 1]>>,
}

/// The memory orders in which a value is used, with the number of users of each.
#[derive(Clone, Debug, Default)]
struct Wanted(Vec<(SmallVec<[usize; 8]>, usize)>);

impl Wanted {
    fn add(&mut self, order: SmallVec<[usize; 8]>) {
        match self.0.iter_mut().find(|(o, _)| *o == order) {
            Some((_, count)) => *count += 1,
            None => self.0.push((order, 1)),
        }
    }

    fn remove(&mut self, order: &SmallVec<[usize; 8]>) {
        if let Some(place) = self.0.iter().position(|(o, _)| o == order) {
            self.0[place].1 -= 1;
            if self.0[place].1 == 0 {
                self.0.swap_remove(place);
            }
        }
    }

    /// The number of orders other than `own`.
    fn others(&self, own: &SmallVec<[usize; 8]>) -> usize {
        self.0.iter().filter(|(o, _)| o != own).count()
    }
}

/// Chooses layouts. The operands of `loose` nodes may have any layout.
pub(super) fn solve(g: &Graph, target: &Target, interface: Interface, loose: &[NodeId]) -> Plan {
    let nodes = g.order().into_iter().filter(|&n| !matches!(g.op(n), Op::Const(_)));
    let sites: Vec<Site> = nodes.map(Site::Node).chain((0..g.outputs().len()).map(Site::Output)).collect();
    let edges = edges(g, &sites, loose);
    let none = vec![Vec::new(); sites.len()];
    let (mut read, mut users) = (none.clone(), none.clone());
    for &edge in &edges {
        read[edge.to].push(edge);
        users[edge.from].push(edge);
    }
    let states = vec![None; sites.len()];
    let results = |site: &Site| match site {
        Site::Node(node) => g.results(*node).len(),
        Site::Output(_) => 0,
    };
    let wanted = sites.iter().map(|site| smallvec![Wanted::default(); results(site)]).collect();
    let mut solver = Solver { g, target, interface, sites, states, joined: none, read, users, wanted };
    for site in 0..solver.sites.len() {
        solver.states[site] = solver.fixed(site);
    }
    for edge in edges {
        match (&solver.states[edge.from], &solver.states[edge.to]) {
            (Some(_), None) => solver.flood_along(edge, edge.to),
            (None, Some(_)) => solver.flood_along(edge, edge.from),
            (None, None) => {
                solver.joined[edge.from].push(edge);
                solver.joined[edge.to].push(edge);
            }
            (Some(_), Some(_)) => {}
        }
    }
    for site in 0..solver.sites.len() {
        if solver.states[site].is_none() {
            solver.flood(site, solver.default(site));
        }
    }
    solver.improve();
    solver.plan()
}

/// The fixed cost of a permutation, in bytes.
const MOVE: usize = 4096;

/// The maximum number of improvement rounds. A round may enable further improvements.
const ROUNDS: usize = 4;

/// All edges between sites, the largest first.
fn edges(g: &Graph, sites: &[Site], loose: &[NodeId]) -> Vec<Edge> {
    let places = |(i, site): (usize, &Site)| match site {
        Site::Node(node) => Some((*node, i)),
        Site::Output(_) => None,
    };
    let place: FxHashMap<NodeId, usize> = sites.iter().enumerate().filter_map(places).collect();
    let mut edges = Vec::new();
    for (to, site) in sites.iter().enumerate() {
        let read = match site {
            Site::Node(node) if loose.contains(node) => continue,
            Site::Node(node) => g.operands(*node),
            Site::Output(i) => [g.outputs()[*i].value].into_iter().collect(),
        };
        for (operand, v) in read.into_iter().enumerate().filter(|(_, v)| variable(g, *v) && g.ty(*v).rank() > 1) {
            edges.push((width(g, v), Edge { from: place[&v.node], port: v.port, to, operand }));
        }
    }
    edges.sort_by_key(|(width, _)| std::cmp::Reverse(*width));
    edges.into_iter().map(|(_, edge)| edge).collect()
}

/// The size of a value in bytes. Dynamic extents count as 1.
fn width(g: &Graph, v: ValueId) -> usize {
    let ty = g.ty(v);
    let extents = ty.shape.dims().iter().map(|d| d.known().unwrap_or(1));
    extents.fold(ty.elem.size(), usize::saturating_mul)
}

impl Solver<'_> {
    fn view(&self, node: NodeId) -> View<'_> {
        View { g: self.g, target: self.target, node }
    }

    fn output_rank(&self, i: usize) -> usize {
        self.g.ty(self.g.outputs()[i].value).rank()
    }

    fn fixed(&self, site: usize) -> Option<Layout> {
        let at_end =
            |rank: usize, order: ImageOrder| (rank != 4 || order == ImageOrder::Nchw).then(|| Layout::row_major(rank));
        match self.sites[site] {
            Site::Output(i) => at_end(self.output_rank(i), self.interface.output),
            Site::Node(node) => match self.g.op(node) {
                Op::Input(_) => at_end(self.g.ty(node.value(0)).rank(), self.interface.input),
                _ => self.view(node).fixed(),
            },
        }
    }

    fn default(&self, site: usize) -> Layout {
        match self.sites[site] {
            Site::Output(i) => Layout::row_major(self.output_rank(i)),
            Site::Node(node) => self.view(node).default(),
        }
    }

    /// An image at a graph input or output has the layout of the source model or of the target.
    fn at_interface(&self, layout: Layout) -> Option<Layout> {
        (layout.is_row_major() || layout == (self.target.image_layout)(layout.rank())).then_some(layout)
    }

    /// The state that one end of an edge gets from the other.
    fn handed_over(&self, edge: Edge, to: usize) -> Option<Layout> {
        if to == edge.to {
            let Site::Node(from) = self.sites[edge.from] else { return None };
            let layout = self.view(from).result(edge.port, self.states[edge.from].as_ref()?);
            match self.sites[to] {
                Site::Node(node) => self.view(node).state_by_operand(edge.operand, &layout),
                Site::Output(_) => self.at_interface(layout),
            }
        } else {
            let state = self.states[edge.to].as_ref()?;
            let layout = self.wish(edge, state);
            let Site::Node(from) = self.sites[to] else { return None };
            match self.g.op(from) {
                Op::Input(_) => self.at_interface(layout),
                _ => self.view(from).state_by_result(edge.port, &layout),
            }
        }
    }

    fn flood_along(&mut self, edge: Edge, to: usize) {
        if let Some(state) = self.handed_over(edge, to) {
            self.flood(to, state);
        }
    }

    /// Fixes a site and all undecided sites that are connected to it.
    fn flood(&mut self, site: usize, state: Layout) {
        self.states[site] = Some(state);
        let mut settled = vec![site];
        while let Some(site) = settled.pop() {
            for edge in std::mem::take(&mut self.joined[site]) {
                let other = if edge.from == site { edge.to } else { edge.from };
                if self.states[other].is_none()
                    && let Some(state) = self.handed_over(edge, other)
                {
                    self.states[other] = Some(state);
                    settled.push(other);
                }
            }
        }
    }

    /// Lets sites with a choice take the layout of a neighbour if that costs less.
    fn improve(&mut self) {
        for site in 0..self.sites.len() {
            let state = self.states[site].take();
            self.set(site, state);
        }
        for _ in 0..ROUNDS {
            let mut changed = false;
            for site in (0..self.sites.len()).filter(|&site| self.fixed(site).is_none()).collect::<Vec<_>>() {
                let offers = |edges: &[Edge]| -> Vec<Layout> {
                    let mut different = Vec::new();
                    for offer in edges.iter().filter_map(|&edge| self.handed_over(edge, site)) {
                        if !different.contains(&offer) {
                            different.push(offer);
                        }
                    }
                    different
                };
                let (from_operands, from_users) = (offers(&self.read[site]), offers(&self.users[site]));
                let current = self.states[site].clone();
                let around = self.around(site);
                let mut least = self.cost_of(&around);
                // At equal cost bytes are permuted late: after a join, one permutation serves several values.
                let mut early = current.is_some_and(|state| !from_operands.contains(&state));
                let offers =
                    from_operands.into_iter().map(|o| (o, true)).chain(from_users.into_iter().map(|o| (o, false)));
                for (offer, late) in offers {
                    let before = self.set(site, Some(offer));
                    let cost = self.cost_of(&around);
                    if cost < least || (cost == least && late && early) {
                        (least, changed, early) = (cost, true, early && !late);
                    } else {
                        self.set(site, before);
                    }
                }
            }
            if !changed {
                return;
            }
        }
    }

    /// Changes the state of a site and the orders it requires of its operands. Returns the previous state.
    fn set(&mut self, site: usize, state: Option<Layout>) -> Option<Layout> {
        let before = std::mem::replace(&mut self.states[site], state);
        for edge in 0..self.read[site].len() {
            let edge = self.read[site][edge];
            let Some(shape) = self.shape(edge.from, edge.port) else { continue };
            let order = |state: &Option<Layout>| Some(self.wish(edge, state.as_ref()?).wide_axes(shape));
            let (old, new) = (order(&before), order(&self.states[site]));
            let wanted = &mut self.wanted[edge.from][usize::from(edge.port)];
            if let Some(order) = old {
                wanted.remove(&order);
            }
            if let Some(order) = new {
                wanted.add(order);
            }
        }
        before
    }

    /// The layout that the user at the end of an edge requires in that state.
    fn wish(&self, edge: Edge, state: &Layout) -> Layout {
        match self.sites[edge.to] {
            Site::Node(node) => self.view(node).operand(edge.operand, state),
            Site::Output(_) => state.clone(),
        }
    }

    fn shape(&self, site: usize, port: u8) -> Option<&Shape> {
        match self.sites[site] {
            Site::Node(node) => Some(&self.g.ty(node.value(port)).shape),
            Site::Output(_) => None,
        }
    }

    /// The operands and results of a site.
    fn around(&self, site: usize) -> Vec<(usize, u8)> {
        let mut values: Vec<(usize, u8)> = self.read[site].iter().map(|w| (w.from, w.port)).collect();
        values.extend(self.users[site].iter().map(|w| (w.from, w.port)));
        values.sort_unstable();
        values.dedup();
        values
    }

    /// The cost of permuting values: once for each order that a user requires and that is not the order of the value.
    fn cost_of(&self, values: &[(usize, u8)]) -> usize {
        let cost = |&(from, port): &(usize, u8)| {
            let (Site::Node(node), Some(state)) = (self.sites[from], &self.states[from]) else { return 0 };
            let own = self.view(node).result(port, state).wide_axes(&self.g.ty(node.value(port)).shape);
            let moves = self.wanted[from][usize::from(port)].others(&own);
            moves * (width(self.g, node.value(port)) + MOVE)
        };
        values.iter().map(cost).sum()
    }

    fn plan(self) -> Plan {
        let mut plan = Plan { states: FxHashMap::default(), outputs: Vec::new() };
        for (site, state) in self.sites.iter().zip(&self.states) {
            let Some(state) = state.clone() else { continue };
            match site {
                Site::Node(node) => {
                    plan.states.insert(*node, state);
                }
                Site::Output(_) => plan.outputs.push(state),
            }
        }
        plan
    }
}
