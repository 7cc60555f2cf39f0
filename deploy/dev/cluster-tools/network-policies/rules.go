package main

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	// Every packet to or from a pod goes through it once.
	rootChain = "KILN-POLICY"
	// What the names of the pods' own chains begin with.
	podChain = "KILN-POD-"
)

// World is what rules are made from.
type World struct {
	Pods       []*core.Pod
	Namespaces []*core.Namespace
	Policies   []*networking.NetworkPolicy
}

// Rules is the input of iptables-restore for this world, and the names of the pods' chains in it. Those of before that
// aren't needed any more are deleted by it.
func (w World) Rules(before []string) (string, []string) {
	var declared, jumps, rules, gone strings.Builder
	var chains []string
	for _, pod := range w.addressed() {
		for _, direction := range []networking.PolicyType{networking.PolicyTypeEgress, networking.PolicyTypeIngress} {
			policies := w.policies(pod, direction)
			if len(policies) == 0 {
				continue
			}
			chain := chainOf(pod, direction)
			chains = append(chains, chain)
			fmt.Fprintf(&jumps, "-A %s %s %s -j %s\n", rootChain, here(direction), pod.Status.PodIP, chain)
			for _, policy := range policies {
				for _, match := range w.allowed(policy, pod, direction) {
					fmt.Fprintf(&rules, "-A %s %s -j RETURN\n", chain, match)
				}
			}
			fmt.Fprintf(&rules, "-A %s -j REJECT --reject-with icmp-admin-prohibited\n", chain)
		}
	}
	for _, chain := range before {
		if !slices.Contains(chains, chain) {
			fmt.Fprintf(&declared, ":%s - [0:0]\n", chain)
			fmt.Fprintf(&gone, "-X %s\n", chain)
		}
	}
	for _, chain := range chains {
		fmt.Fprintf(&declared, ":%s - [0:0]\n", chain)
	}
	// Answers belong to connections that were allowed when they began.
	established := fmt.Sprintf("-A %s -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN\n", rootChain)
	return fmt.Sprintf("*filter\n:%s - [0:0]\n", rootChain) + declared.String() + established +
		jumps.String() + rules.String() + gone.String() + "COMMIT\n", chains
}

// addressed are the pods with an address of their own, in the order of their names.
func (w World) addressed() []*core.Pod {
	var pods []*core.Pod
	for _, pod := range w.Pods {
		ended := pod.Status.Phase == core.PodSucceeded || pod.Status.Phase == core.PodFailed
		address, err := netip.ParseAddr(pod.Status.PodIP)
		if err == nil && address.Is4() && !pod.Spec.HostNetwork && !ended {
			pods = append(pods, pod)
		}
	}
	slices.SortFunc(pods, func(a, b *core.Pod) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return pods
}

// policies are those that select the pod for the direction, in the order of their names.
func (w World) policies(pod *core.Pod, direction networking.PolicyType) []*networking.NetworkPolicy {
	var policies []*networking.NetworkPolicy
	for _, policy := range w.Policies {
		if policy.Namespace == pod.Namespace && slices.Contains(policy.Spec.PolicyTypes, direction) &&
			selects(&policy.Spec.PodSelector, pod.Labels) {
			policies = append(policies, policy)
		}
	}
	slices.SortFunc(policies, func(a, b *networking.NetworkPolicy) int { return strings.Compare(a.Name, b.Name) })
	return policies
}

// allowed are matches of what the policy lets through to the pod, or from it.
func (w World) allowed(policy *networking.NetworkPolicy, pod *core.Pod, direction networking.PolicyType) []string {
	var matches []string
	allow := func(peers []networking.NetworkPolicyPeer, ports []networking.NetworkPolicyPort) {
		for _, peer := range w.peers(policy.Namespace, peers) {
			destination := peer.pod
			if direction == networking.PolicyTypeIngress {
				destination = pod
			}
			for _, port := range portMatches(ports, destination) {
				matches = append(matches, fmt.Sprintf("%s %s%s", there(direction), peer.prefix, port))
			}
		}
	}
	if direction == networking.PolicyTypeIngress {
		for _, rule := range policy.Spec.Ingress {
			allow(rule.From, rule.Ports)
		}
	} else {
		for _, rule := range policy.Spec.Egress {
			allow(rule.To, rule.Ports)
		}
	}
	return matches
}

// peer is the far end of a connection: a pod, or addresses of which no more is known.
type peer struct {
	prefix netip.Prefix
	pod    *core.Pod
}

// peers are those that a rule names; all there are where it names none.
func (w World) peers(namespace string, named []networking.NetworkPolicyPeer) []peer {
	var peers []peer
	everyone := len(named) == 0
	if everyone {
		peers = append(peers, peer{prefix: netip.MustParsePrefix("0.0.0.0/0")})
	}
	for _, one := range named {
		if one.IPBlock != nil {
			for _, prefix := range addresses(one.IPBlock) {
				peers = append(peers, peer{prefix: prefix})
			}
		}
	}
	for _, pod := range w.addressed() {
		isNamed := func(one networking.NetworkPolicyPeer) bool { return w.isPeer(one, namespace, pod) }
		if everyone || slices.ContainsFunc(named, isNamed) {
			// By themselves even where everyone is meant: a port by name is each pod's own.
			peers = append(peers, peer{prefix: netip.PrefixFrom(netip.MustParseAddr(pod.Status.PodIP), 32), pod: pod})
		}
	}
	return peers
}

func (w World) isPeer(one networking.NetworkPolicyPeer, namespace string, pod *core.Pod) bool {
	if one.IPBlock != nil || (one.PodSelector != nil && !selects(one.PodSelector, pod.Labels)) {
		return false
	}
	if one.NamespaceSelector == nil {
		return pod.Namespace == namespace
	}
	return slices.ContainsFunc(w.Namespaces, func(n *core.Namespace) bool {
		return n.Name == pod.Namespace && selects(one.NamespaceSelector, n.Labels)
	})
}

// addresses are the prefixes of the block without its exceptions.
func addresses(block *networking.IPBlock) []netip.Prefix {
	left := []netip.Prefix{netip.MustParsePrefix(block.CIDR).Masked()}
	for _, exception := range block.Except {
		var next []netip.Prefix
		for _, prefix := range left {
			next = append(next, without(prefix, netip.MustParsePrefix(exception).Masked())...)
		}
		left = next
	}
	return slices.DeleteFunc(left, func(p netip.Prefix) bool { return !p.Addr().Is4() })
}

// without halves the prefix until no part of it holds both what is excepted and what isn't.
func without(prefix, exception netip.Prefix) []netip.Prefix {
	switch {
	case !prefix.Overlaps(exception):
		return []netip.Prefix{prefix}
	case prefix.Bits() >= exception.Bits():
		return nil
	}
	lower := netip.PrefixFrom(prefix.Addr(), prefix.Bits()+1)
	bytes := prefix.Addr().AsSlice()
	bytes[prefix.Bits()/8] |= 0x80 >> (prefix.Bits() % 8)
	middle, _ := netip.AddrFromSlice(bytes)
	upper := netip.PrefixFrom(middle, prefix.Bits()+1)
	return append(without(lower, exception), without(upper, exception)...)
}

// portMatches are matches of the ports at the destination, and one that matches all where none is named.
func portMatches(ports []networking.NetworkPolicyPort, destination *core.Pod) []string {
	if len(ports) == 0 {
		return []string{""}
	}
	var matches []string
	for _, port := range ports {
		protocol := core.ProtocolTCP
		if port.Protocol != nil {
			protocol = *port.Protocol
		}
		match := " -p " + strings.ToLower(string(protocol))
		switch {
		case port.Port == nil:
		case port.Port.Type == intstr.String:
			number, ok := numberOf(destination, port.Port.StrVal, protocol)
			if !ok {
				continue
			}
			match += fmt.Sprintf(" --dport %d", number)
		case port.EndPort != nil:
			match += fmt.Sprintf(" --dport %d:%d", port.Port.IntVal, *port.EndPort)
		default:
			match += fmt.Sprintf(" --dport %d", port.Port.IntVal)
		}
		matches = append(matches, match)
	}
	return matches
}

func numberOf(pod *core.Pod, name string, protocol core.Protocol) (int32, bool) {
	if pod == nil {
		return 0, false
	}
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			if port.Name == name && port.Protocol == protocol {
				return port.ContainerPort, true
			}
		}
	}
	return 0, false
}

func selects(selector *meta.LabelSelector, of map[string]string) bool {
	parsed, err := meta.LabelSelectorAsSelector(selector)
	if err != nil {
		panic("the API server takes no such selector: " + err.Error())
	}
	return parsed.Matches(labels.Set(of))
}

// here is the pod's side of a packet in this direction, there the other one.
func here(direction networking.PolicyType) string {
	if direction == networking.PolicyTypeEgress {
		return "-s"
	}
	return "-d"
}

func there(direction networking.PolicyType) string {
	if direction == networking.PolicyTypeEgress {
		return "-d"
	}
	return "-s"
}

// chainOf keeps within the 28 characters that a chain's name may have.
func chainOf(pod *core.Pod, direction networking.PolicyType) string {
	hash := fnv.New64a()
	fmt.Fprintf(hash, "%s/%s", pod.Namespace, pod.Name)
	return fmt.Sprintf("%s%016x-%c", podChain, hash.Sum64(), direction[0])
}
