// Enforces NetworkPolicy on the one node of a development cluster: every change of a pod, a namespace or a policy
// becomes one transaction of iptables-restore.
//
// What a policy closes is refused and not dropped, so that who is denied knows at once. The node itself, and with it
// the kubelet's probes, reaches every pod. A policy counts from the moment the pod's address is known to the API.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "file that names the API server and this program's user")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, *kubeconfig); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}

	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods()
	namespaces := factory.Core().V1().Namespaces()
	policies := factory.Networking().V1().NetworkPolicies()

	// One place: changes that come while the rules are written make one more round, not one each.
	changed := make(chan struct{}, 1)
	note := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { note() },
		UpdateFunc: func(any, any) { note() },
		DeleteFunc: func(any) { note() },
	}
	for _, informer := range []cache.SharedIndexInformer{pods.Informer(), namespaces.Informer(), policies.Informer()} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())

	chains, err := chainsLeft(ctx)
	if err != nil {
		return err
	}
	written := ""
	for {
		world := World{}
		// Listers read the informers' stores; they have no other way to fail.
		world.Pods, _ = pods.Lister().List(labels.Everything())
		world.Namespaces, _ = namespaces.Lister().List(labels.Everything())
		world.Policies, _ = policies.Lister().List(labels.Everything())

		rules, now := world.Rules(chains)
		var again <-chan time.Time
		if rules != written {
			if err := restore(ctx, rules); err != nil {
				// What holds is what held before; who can't be kept from writing may be gone by then.
				log.Print(err)
				again = time.After(time.Second)
			} else {
				// What was to be deleted is gone, and isn't asked for again.
				chains, written = now, rules
			}
		}

		select {
		case <-ctx.Done():
			return nil
		case <-again:
		case <-changed:
			// A rollout changes many things within moments.
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// chainsLeft lists the chains that an earlier run wrote.
func chainsLeft(ctx context.Context) ([]string, error) {
	saved, err := exec.CommandContext(ctx, "iptables-save", "-t", "filter").Output()
	if err != nil {
		return nil, err
	}
	var chains []string
	for _, line := range strings.Split(string(saved), "\n") {
		if name, ok := strings.CutPrefix(line, ":"); ok && strings.HasPrefix(name, podChain) {
			chains = append(chains, strings.Fields(name)[0])
		}
	}
	return chains, nil
}

func restore(ctx context.Context, rules string) error {
	command := exec.CommandContext(ctx, "iptables-restore", "--wait", "--noflush")
	command.Stdin = strings.NewReader(rules)
	var said bytes.Buffer
	command.Stderr = &said
	if err := command.Run(); err != nil {
		return fmt.Errorf("iptables-restore: %w: %s\n%s", err, said.String(), rules)
	}
	return nil
}
