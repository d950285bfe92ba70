package local
import ("testing";"time";"fmt";"strconv")
func TestZZ(t *testing.T){
 h:=open(t,plainApp(t))
 s:=time.Now(); run(t,h,"big","10000"); fmt.Println("10000 in one", time.Since(s))
 s=time.Now()
 for i:=range 40 { start(t,h,"c"+strconv.Itoa(i),"250") }
 for i:=range 40 { wait(t,h,"c"+strconv.Itoa(i)) }
 fmt.Println("40x250", time.Since(s))
 s=time.Now(); run(t,h,"huge","15000"); fmt.Println("15000 in one", time.Since(s))
}
