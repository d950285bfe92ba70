package tests

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/durablefunctions/internal/testkit"
)

// start accepts messages from programs of this machine only, and not from web pages in a browser on it.
func TestOnlyFromThisMachine(t *testing.T) {
	t.Parallel()
	s := startLocal(t, t.TempDir())
	address := strings.TrimPrefix(s.URL, "http://")
	_, port, _ := net.SplitHostPort(address)
	for _, c := range []struct{ host, origin, site string }{
		{"rebound.example.com:" + port, "", ""},
		{"rebound.example.com:" + port, "http://rebound.example.com:" + port, "same-origin"},
		{address, "https://evil.example.com", "cross-site"},
		{address, "null", "cross-site"},
		{address, "", "cross-site"},
	} {
		req, err := http.NewRequest("POST", s.URL+"/admin/functions/"+clientFunction, strings.NewReader(admin(`{"Batch":"2026-10"}`)))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = c.host
		req.Header.Set("Content-Type", "application/json")
		for name, value := range map[string]string{"Origin": c.origin, "Sec-Fetch-Site": c.site} {
			if value != "" {
				req.Header.Set(name, value)
			}
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusForbidden {
			t.Errorf("%+v: %d", c, res.StatusCode)
		}
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		ip, ok := a.(*net.IPNet)
		if !ok || ip.IP.IsLoopback() || ip.IP.IsLinkLocalUnicast() {
			continue
		}
		if conn, err := net.DialTimeout("tcp", net.JoinHostPort(ip.IP.String(), port), time.Second); err == nil {
			conn.Close()
			t.Errorf("it listens on %s", ip.IP)
		}
	}
	if n := query(t, filepath.Join(s.data, "taskhub.db"), "SELECT (SELECT COUNT(*) FROM messages) + (SELECT COUNT(*) FROM instances)"); n != 0 {
		t.Error("a message was taken")
	}
}

// The handler's port is for the host: a web page in a browser on this machine cannot run an activity.
func TestHandlerIsForTheHostOnly(t *testing.T) {
	t.Parallel()
	crm := testkit.StartCRM(t, nil)
	h := startHandler(t, "CRM_BASE_URL="+crm.URL)
	body := testkit.ActivityBody(`{"RecordId":"a","JobId":"j"}`)
	invoke := func(change func(*http.Request)) testkit.Answer {
		t.Helper()
		r, err := h.NewRequest("ProcessActivity", body)
		if err != nil {
			t.Fatal(err)
		}
		change(r)
		a, err := h.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for name, change := range map[string]func(*http.Request){
		"rebound name":   func(r *http.Request) { r.Host = "rebound.example.com" },
		"page elsewhere": func(r *http.Request) { r.Header.Set("Origin", "https://evil.example.com") },
		"page of a file": func(r *http.Request) { r.Header.Set("Origin", "null") },
		"cross-site":     func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"simple, text": func(r *http.Request) {
			r.Header.Set("Content-Type", "text/plain")
			r.Header.Set("Sec-Fetch-Site", "none")
		},
		"address elsewhere": func(r *http.Request) { r.Host = "192.0.2.1:7071" },
	} {
		if a := invoke(change); a.Status != http.StatusForbidden {
			t.Errorf("%s: %s", name, a)
		}
	}
	if n := len(crm.Requests()); n != 0 {
		t.Errorf("%d records were processed", n)
	}
	if a := invoke(func(*http.Request) {}); a.Status != 200 || len(crm.Requests()) != 1 {
		t.Errorf("the host itself: %s", a)
	}
}

// A client that stops sending is disconnected, and does not delay anybody.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	s := startLocal(t, t.TempDir())
	address := strings.TrimPrefix(s.URL, "http://")
	var slow []net.Conn
	for _, sent := range []string{
		"", "POST /admin", "POST /admin/functions/MyClientFunction HTTP/1.1\r\nHost: localhost\r\n",
		"POST /admin/functions/MyClientFunction HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
	} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, sent); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, conn)
	}
	s.send(t, `{"Batch":"2026-10"}`)
	s.waitFor(t, "completed: 120 records, 120 succeeded")
	for i, conn := range slow {
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); os.IsTimeout(err) {
			t.Errorf("client %d was not cut off within a minute", i)
		}
	}
}
