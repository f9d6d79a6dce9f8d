package plugin

import "sync"

// Registry maps handles to running instances. The engine stores the handle of an
// instance. A Registry is safe for concurrent use, and its zero value is empty.
type Registry struct {
	mu   sync.Mutex
	last uintptr
	live map[uintptr]*Instance
}

// Add adds an instance and returns its handle, which is not 0 and is not reused.
func (r *Registry) Add(in *Instance) uintptr {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live == nil {
		r.live = map[uintptr]*Instance{}
	}
	r.last++
	r.live[r.last] = in
	return r.last
}

// Find returns the instance with this handle, or nil.
func (r *Registry) Find(handle uintptr) *Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live[handle]
}

// Only returns the instance if there is exactly one, otherwise nil.
func (r *Registry) Only() *Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.live) == 1 {
		for _, in := range r.live {
			return in
		}
	}
	return nil
}

// Remove removes the instance with this handle and returns it, or nil if there is
// none.
func (r *Registry) Remove(handle uintptr) *Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	in := r.live[handle]
	delete(r.live, handle)
	return in
}

// RemoveAll removes all instances and returns them.
func (r *Registry) RemoveAll() []*Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*Instance
	for handle, in := range r.live {
		all = append(all, in)
		delete(r.live, handle)
	}
	return all
}
