/**
 * Openbox for one application: its main windows fill the screen without decoration, so that resizing the screen
 * resizes the application; dialogs keep their size and a title bar. No keys, menus or desktops of its own.
 */
export const windowManagerConfig = `<?xml version="1.0" encoding="UTF-8"?>
<openbox_config xmlns="http://openbox.org/3.4/rc">
  <focus><focusNew>yes</focusNew><followMouse>no</followMouse></focus>
  <placement><policy>Smart</policy><center>yes</center></placement>
  <theme><name>Clearlooks</name><titleLayout>LC</titleLayout></theme>
  <desktops><number>1</number><popupTime>0</popupTime></desktops>
  <resize><drawContents>yes</drawContents><popupShow>Never</popupShow></resize>
  <keyboard/>
  <mouse>
    <context name="Titlebar"><mousebind button="Left" action="Drag"><action name="Move"/></mousebind></context>
    <context name="Client">
      <mousebind button="Left" action="Press"><action name="Focus"/><action name="Raise"/></mousebind>
    </context>
    <context name="Close"><mousebind button="Left" action="Click"><action name="Close"/></mousebind></context>
  </mouse>
  <applications>
    <application type="normal">
      <decor>no</decor><maximized>yes</maximized><focus>yes</focus>
      <!-- For those that insist on not being maximized, such as GIMP. -->
      <position force="yes"><x>0</x><y>0</y></position>
      <size><width>100%</width><height>100%</height></size>
    </application>
    <application type="dialog"><decor>yes</decor><focus>yes</focus></application>
  </applications>
</openbox_config>
`;
